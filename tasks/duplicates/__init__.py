"""Stages on images that show the same: near-duplicates of a corpus, leaks of evaluation sets.

Front doors are the stages `find_duplicates`, `import_duplicates` and `find_leaks`. May import
`indexing` (rows of an index, never its stages), `workers`, `stage`.
"""
