"""CLIP embeddings that users bring: clip-retrieval's folders and the pickles of ZUTIS's authors.

Imports files, containers and embeddings. Front door: `source.open_given`.
"""
