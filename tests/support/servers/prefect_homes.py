"""Prefect homes with an existing database, since making one takes as long as a small build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.processes.shared_by_workers import one_worker_at_a_time, shared_folder

DATABASE = "prefect.db"
_MAKE = """
import asyncio
from prefect.server.database import provide_database_interface

async def make():
    database = provide_database_interface()
    await database.create_db()
    await (await database.engine()).dispose()

asyncio.run(make())
"""


def prepared_home(home: Path, name: str = DATABASE) -> Path:
    """Make a home with an empty database of Prefect's version; returns the home."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(_database(), home / name)
    return home


def _database() -> Path:
    """The database that all homes are copies of."""
    whole = shared_folder() / DATABASE
    with one_worker_at_a_time("database"):
        if not whole.exists():
            home = shared_folder() / "prefect"
            kept = {name: os.environ[name] for name in os.environ if name[:8] != "PREFECT_"}
            subprocess.run(
                [sys.executable, "-c", _MAKE], env={**kept, "PREFECT_HOME": str(home)},
                check=True, timeout=240,
            )  # fmt: skip
            (home / DATABASE).rename(whole)
    return whole
