"""A page on a build, and the differences of two builds: facts, thumbnails, charts, templates.

May import `summaries` and what lies below it. Front doors: `report` and `diff`.
"""
