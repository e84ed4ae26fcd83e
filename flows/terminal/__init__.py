"""What commands say on a terminal or into a file while they work: waiting, progress, tables.

May import `processes`.
"""
