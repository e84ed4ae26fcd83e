"""Commands that look at what builds have made, a module each: pages, differences, search.

May import `commands` and what lies below it. Front doors: the functions that `cli` names.
"""
