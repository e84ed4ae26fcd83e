"""Prefect's server: its settings, home, errors, a temporary one, the one of `zutis serve`.

May import `processes`, `terminal`.
"""
