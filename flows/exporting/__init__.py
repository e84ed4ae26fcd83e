"""`zutis export`: the command, its settings, and what of a build it hands over.

May import `commands` and what lies below it. Front door: the function that `cli` names.
"""
