"""`zutis demo-train`: the demonstration's small models, trained again.

May import `demo` (its settings), `commands` and what lies below it. Front door: `app`.
"""
