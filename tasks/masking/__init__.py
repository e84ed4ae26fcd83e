"""Stages from retrieved images to class-agnostic masks: plan what has none yet, mask and refine.

May import `indexing` (bytes of images, never its stages), `stage`.
"""
