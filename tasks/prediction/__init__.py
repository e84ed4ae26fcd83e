"""Images in, labels and instances out: segmenters, checkpoints, files and overlays of predictions.

May import `categories`, `workers`, `stage`. Front doors: `segmenter`, `predict`.
"""
