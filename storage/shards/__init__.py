"""WebDataset shards: written with fixed bytes, read at random by byte offset, cached locally.

May import `artifacts`, `images`, `vocabularies` and what lies below them. Front door: `samples`.
"""
