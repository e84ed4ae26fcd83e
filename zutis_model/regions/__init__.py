"""Regions of images: views of a masked object for CLIP, shape of a mask, damage done to masks.

May import `refinement`. Front doors: `views`, `shape`, `damage`, `pooling`.
"""
