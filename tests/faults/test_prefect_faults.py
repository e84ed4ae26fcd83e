"""Loss of Prefect's database or server: the artifact store is the truth."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fault_builds import (
    Build,
    Undisturbed,
    check_nothing_done_twice,
    parts_of,
    published,
)
from fault_servers import PrefectServer

from tests.support.servers.prefect_homes import DATABASE, prepared_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def states_of_runs(home: Path) -> list[str]:
    """Of all runs of flows that Prefect's database there knows."""
    with closing(sqlite3.connect(home / DATABASE)) as database:
        return [state for (state,) in database.execute("select state_name from flow_run")]


def forget(home: Path) -> None:
    """Put an empty database in the place of Prefect's own."""
    shutil.rmtree(home)
    prepared_home(home)
    assert states_of_runs(home) == []


def test_prefect_s_database_deleted_between_runs_costs_nothing(
    workshop: Path, undisturbed: Undisturbed
):
    """Each run has its own Prefect API, as for a user without a server."""
    home = prepared_home(workshop / "forgetful")
    build = Build(workshop, str(workshop / "forgotten"), train=False, home=home)
    first = build.start("make_masks:step:4")
    assert first.wait() == -signal.SIGKILL, first.text()
    assert first.survivors() == []
    assert states_of_runs(home), "Prefect kept nothing"
    forget(home)

    second = build.finish()
    assert published(build.store) == undisturbed.built
    check_nothing_done_twice([first, second], workers=1)
    assert "embed_images: cached, 5 parts" in second.text()

    assert second.survivors() == []
    forget(home)
    third = build.finish()
    assert parts_of(third.events(), "begin") == []
    assert published(build.store) == undisturbed.built


@pytest.fixture
def mortal_server(workshop: Path) -> Iterator[PrefectServer]:
    server = PrefectServer(workshop / "mortal")
    server.start()
    try:
        yield server
    finally:
        server.kill()


def test_a_server_that_is_killed_and_started_again_loses_no_build(
    workshop: Path, undisturbed: Undisturbed, mortal_server: PrefectServer
):
    build = Build(workshop, str(workshop / "served"), server=mortal_server)
    run = build.start()
    run.wait_for("embed_images")
    mortal_server.kill()
    run.wait_for("embed_images", "end")
    mortal_server.start()
    assert run.wait() == 0, run.text()
    assert published(build.store) == undisturbed.content
    check_nothing_done_twice([run], workers=1)
    assert "Completed" in states_of_runs(mortal_server.home)
