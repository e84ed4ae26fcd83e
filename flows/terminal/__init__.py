"""Output of commands while they work: notices, progress, tables.

May import `processes`.
"""
