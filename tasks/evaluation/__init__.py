"""The stage `evaluate`: predictions compared with annotations; scores, tables and sheets.

May import `prediction`, `categories`, `workers`, `stage`. Front door: `evaluate`.
"""
