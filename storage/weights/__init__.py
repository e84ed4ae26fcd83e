"""Model weights: what users write for them, which file that is, and that it is fetched whole.

May import `artifacts` (digests), `files` and what lies below them. Front door: `resolving.resolve`.
"""
