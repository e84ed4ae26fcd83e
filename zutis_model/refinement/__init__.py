"""Mask refinement: bilateral solver and grid, clean-up, statistics.

May import `layers`. Front doors: `bilateral_solver`, `batched_bilateral_solver` for GPUs.
"""
