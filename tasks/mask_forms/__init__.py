"""Masks in the forms that other tools have: polygons, and run lengths that are not COCO's.

Imports no other room; `outlines.py` has polygons, `run_lists.py` run lengths.
"""
