"""Training ZUTIS on shards: the stage `train`, samples, batches, steps, the loop and its state.

May import `prediction` (overlays), `categories`, `workers`, `stage`. Front door: `train`.
"""
