"""Prediction of labels and instances: segmenters, checkpoints, files of predictions, overlays.

May import `categories`, `workers`, `stage`. Front doors: `segmenter`, `predict`.
"""
