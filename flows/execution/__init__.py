"""Executors of stages: this process, Prefect tasks, Ray, or the cache alone; progress.

May import `prefect_server`, `terminal`, `settings` (devices). Front door: `executors`.
"""
