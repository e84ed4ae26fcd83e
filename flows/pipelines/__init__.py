"""The wiring: which stage reads what. Knows nothing of how stages are run, and no Prefect.

May import `execution` (the interface of executors), `upkeep`, `settings`. Front doors: `build`,
`training`.
"""
