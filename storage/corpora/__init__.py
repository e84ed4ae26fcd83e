"""Corpora: folders, tars, tables, lists and COCO JSON; their listings, and images' bytes.

May import `images`, `files` and what lies below them. A format is a module. Front door: `corpus`.
"""
