"""Corpora: folders, tars, tables, lists and COCO JSON; their listings, and images' bytes.

May import `images`, `files` and the rooms below them. A format is a module. Front door: `corpus`.
"""
