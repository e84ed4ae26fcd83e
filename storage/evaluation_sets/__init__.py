"""Data sets for evaluation: one module per data set, and the registry that lists them.

May import `annotations` and the rooms below it. Front door: `opening.open_evaluation_set`.
"""
