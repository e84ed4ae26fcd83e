"""How stages get done: here, as Prefect tasks, on Ray, or not at all if they are done; progress.

May import `prefect_server`, `terminal`, `settings` (devices). Front door: `executors`.
"""
