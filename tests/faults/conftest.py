"""The fault harness: the scale of its tests, and the fixtures of its builds.

`pytest tests/faults --faults 50 --fault-seed 7` kills fifty times; `ZUTIS_FAULTS=50` and
`ZUTIS_FAULT_SEED=7` do the same where pytest is started from elsewhere and does not know the
options yet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import fault_nursery
import pytest
from fault_builds import (
    STARTED,
    Build,
    Undisturbed,
    prefect_environment,
    published,
    write_workshop,
)
from fault_servers import PrefectServer

FEW = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults", type=int, help=f"how often to kill; {FEW} unless told")
    parser.addoption("--fault-seed", type=int, help="of the moments at which to kill")


def _chosen(config: pytest.Config, option: str, variable: str, default: int) -> int:
    given = config.getoption(option, default=None)
    return int(os.environ.get(variable, default)) if given is None else int(given)


@pytest.fixture(scope="session")
def faults(pytestconfig: pytest.Config) -> int:
    """Number of kills."""
    return _chosen(pytestconfig, "--faults", "ZUTIS_FAULTS", FEW)


@pytest.fixture(scope="session")
def fault_seed(pytestconfig: pytest.Config) -> int:
    return _chosen(pytestconfig, "--fault-seed", "ZUTIS_FAULT_SEED", 0)


@pytest.fixture(scope="session")
def only_if_long(faults: int) -> None:
    """Skip tests that take minutes, unless more than the default number of faults is requested."""
    if faults <= FEW:
        pytest.skip(f"takes minutes: --faults {FEW + 1}, or more")


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    write_workshop(folder)
    return folder


@pytest.fixture(autouse=True)
def no_survivors() -> Iterator[None]:
    """Kill all builds of a test at its end."""
    yield
    for run in STARTED:
        run.kill()
    STARTED.clear()


@pytest.fixture(scope="session")
def prefect_server(workshop: Path) -> Iterator[PrefectServer]:
    """One Prefect server for all builds that don't need their own."""
    server = PrefectServer(workshop / "prefect")
    server.start()
    fault_nursery.prepare(
        {
            **prefect_environment(server.home, server),
            # As `prepare_prefect` does it for a command, which imports Prefect afterwards.
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        }
    )
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def undisturbed(workshop: Path, prefect_server: PrefectServer) -> Undisturbed:
    build = Build(workshop, str(workshop / "undisturbed"), server=prefect_server, forked=True)
    started = time.monotonic()
    run = build.finish()
    return Undisturbed(published(build.store), run, time.monotonic() - started)
