"""The demonstration: a made world, the commands run on it, figures, and a page.

May import `commands` and what lies below it. Front door: `command`.
"""
