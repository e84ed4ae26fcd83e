"""Stages from a corpus to an index: scan, embed (and ask again), index.

May import `stage` and `workers`. What later stages read of an index is here, too: `index_rows`,
`source_images`.
"""
