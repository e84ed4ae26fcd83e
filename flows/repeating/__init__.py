"""Commands that take up a finished build again.

May import `commands` and what lies below it. Front doors: the functions that `cli` names.
"""
