"""Pages on a build, and on two: what they say, thumbnails, charts, templates.

May import `builds` and what lies below it. Front doors: `report` and `comparison_page`.
"""
