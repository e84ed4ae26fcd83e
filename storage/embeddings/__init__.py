"""Embeddings on disk: float16 rows, exact search over them, and FAISS indices.

May import `artifacts` and the rooms below it. Front doors: `parts`, `exact_search`.
"""
