"""Training: criteria, schedules, optimisers, augmentation.

May import `clip` and `layers`. Front door: `criterion`.
"""
