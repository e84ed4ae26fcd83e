"""Corpora that users name: folders, tars, tables, lists and COCO JSON; their listing, their bytes.

May import `images`, `files` and what lies below them. A format is a module. Front door: `corpus`.
"""
