"""Model weights: names, resolution to files, downloads and checks.

May import `artifacts` (digests), `files` and the rooms below them. Front door: `resolving.resolve`.
"""
