"""WebDataset shards: reproducible writing, random access by byte offset, a local cache.

May import `artifacts`, `images`, `vocabularies` and the rooms below them. Front door: `samples`.
"""
