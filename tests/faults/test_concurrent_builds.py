"""Several equal builds on one store at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_builds import Build, Undisturbed, published, unfinished
from fault_servers import PrefectServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def run_together(workshop: Path, server: PrefectServer, name: str, builds: int) -> str:
    """Run so many builds at the same time, check that all succeed, and return the store."""
    store = str(workshop / name)
    together = [
        Build(workshop, store, server=server, forked=True, label=f"{name}-{number}")
        for number in range(builds)
    ]
    runs = [build.start() for build in together]
    try:
        for run in runs:
            assert run.wait() == 0, run.text()
    finally:
        for run in runs:
            run.kill()
    return store


def test_two_builds_on_one_store_publish_the_bytes_of_one(
    workshop: Path, prefect_server: PrefectServer, undisturbed: Undisturbed
):
    store = run_together(workshop, prefect_server, "two", 2)
    assert published(store) == undisturbed.content
    assert unfinished(store) == []


@pytest.mark.usefixtures("only_if_long")
def test_eight_builds_on_one_store_publish_the_bytes_of_one(
    workshop: Path, prefect_server: PrefectServer, undisturbed: Undisturbed
):
    store = run_together(workshop, prefect_server, "eight", 8)
    assert published(store) == undisturbed.content
    assert unfinished(store) == []
