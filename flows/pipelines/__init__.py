"""The wiring: which stage reads which artifacts. It is independent of executors and of Prefect.

May import `execution` (the interface of executors), `upkeep`, `settings`. Front doors: `build`,
`training`.
"""
