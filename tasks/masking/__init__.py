"""Stages from retrieved images to class-agnostic masks: plan the missing ones, mask and refine.

May import `indexing` (bytes of images, never its stages), `stage`.
"""
