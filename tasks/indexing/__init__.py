"""Stages from a corpus to an index: scan, embed (with retries), index.

May import `stage` and `workers`. Readers of an index for later stages are here too: `index_rows`,
`approximate_search`, `source_images`.
"""
