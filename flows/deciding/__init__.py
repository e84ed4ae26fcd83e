"""People decide about labels: the page for it, what decisions would change, and corrections.

May import `looking` and what lies below it. Front doors: the functions that `cli` names.
"""
