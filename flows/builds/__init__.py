"""Finished builds as data: their artifacts, labels and settings, and what differs between two.

May import `summaries` and what lies below it. Front door: `found`.
"""
