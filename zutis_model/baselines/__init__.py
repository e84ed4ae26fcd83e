"""Segmenters that need no training: MaskCLIP, and ReCo with its co-segmentation.

May import `clip` and `layers`.
"""
