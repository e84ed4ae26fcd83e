"""Stages from a vocabulary to ranked images: embed the prompts, search the index, retrieve.

May import `indexing` (rows of an index, never its stages), `categories`, `stage`.
"""
