"""Model weights: names, resolution to files, downloads and checks.

May import `artifacts` (digests), `files` and what lies below them. Front door: `resolving.resolve`.
"""
