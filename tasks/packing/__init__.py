"""Stages from masks to a data set: labels joined, shards packed and assembled, the build recorded.

May import `indexing` (bytes of images, never its stages), `workers`, `stage`.
"""
