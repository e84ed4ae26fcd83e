"""Training of SelfMask without labels: patch features, votes, batches, the loop, scores.

May import `training` (its timed schedule), `prediction`, `stage`. Front door: `training`.
"""
