"""Training of ZUTIS on shards: the stage `train`, samples, batches, steps, loop, checkpoints.

May import `prediction` (overlays), `categories`, `workers`, `stage`. Front door: `train`.
"""
