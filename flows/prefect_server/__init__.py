"""Prefect's server as commands find or start it: settings, home, refusals, a temporary server.

May import `processes`, `terminal`.
"""
