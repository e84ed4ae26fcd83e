"""Faults of the clock, and SIGTERM."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from fault_builds import (
    Build,
    Undisturbed,
    check_nothing_done_twice,
    parts_of,
    published,
    unfinished,
)
from fault_servers import PrefectServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# Seconds between SIGTERM and SIGKILL of an orchestrator (Kubernetes' default).
GRACE = 30.0
LIBFAKETIME = (
    os.environ.get("LIBFAKETIME"),
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
)
YEAR = 365 * 86_400


@pytest.mark.parametrize("stage", ["embed_images", "train"])
def test_sigterm_ends_a_build_within_its_grace_and_loses_at_most_the_part_in_flight(
    stage: str, workshop: Path, prefect_server: PrefectServer, undisturbed: Undisturbed
):
    build = Build(
        workshop, str(workshop / f"stopped-in-{stage}"), server=prefect_server, forked=True
    )
    run = build.start()
    run.wait_for(stage, "step")
    os.killpg(run.process.pid, signal.SIGTERM)
    told = time.monotonic()
    assert run.wait(GRACE) != 0, run.text()
    assert time.monotonic() - told < GRACE
    assert "Traceback" not in run.text()
    assert run.survivors() == []
    again = build.finish()
    assert published(build.store) == undisturbed.content
    check_nothing_done_twice([run, again], workers=1)


def test_a_clock_that_was_wrong_by_a_year_makes_nothing_again(
    workshop: Path, prefect_server: PrefectServer, undisturbed: Undisturbed
):
    build = Build(workshop, str(workshop / "misdated"), server=prefect_server, forked=True)
    runs = []
    for kill, years in (("embed_images:step:3", 1), ("make_masks:step:4", -2)):
        runs.append(build.start(kill))
        assert runs[-1].wait() == -signal.SIGKILL, runs[-1].text()
        for path in Path(build.store).rglob("*"):
            then = path.stat().st_mtime + years * YEAR
            os.utime(path, (then, then))
    runs.append(build.finish())
    assert published(build.store) == undisturbed.content
    check_nothing_done_twice(runs, workers=1)


def test_a_clock_that_jumps_during_a_build_changes_no_byte(
    workshop: Path, prefect_server: PrefectServer, undisturbed: Undisturbed
):
    jumping = {"FAULT_CLOCK": "1"}
    build = Build(
        workshop, str(workshop / "jumps"), server=prefect_server, environment=jumping, fresh=True
    )
    run = build.finish()
    assert published(build.store) == undisturbed.content
    check_nothing_done_twice([run], workers=1)
    again = build.finish()
    assert parts_of(again.events(), "begin") == []
    assert unfinished(build.store) == []


def test_the_system_s_clock_jumps_as_each_stage_begins(
    workshop: Path, prefect_server: PrefectServer, undisturbed: Undisturbed
):
    """Jumps of the clock for all libraries and not only for Python, by libfaketime."""
    library = next((path for path in LIBFAKETIME if path and Path(path).exists()), None)
    if library is None:
        pytest.skip("libfaketime is not installed (Debian's package of that name)")
    offset = workshop / "clock"
    offset.write_text("+0")
    build = Build(
        workshop,
        str(workshop / "faked"),
        server=prefect_server,
        fresh=True,
        environment={
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            # As with a real clock that is set, the monotonic clock continues.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )
    run = build.start()
    for stage, jump in (("embed_images", "+1h"), ("make_masks", "-2d"), ("train", "+1d")):
        run.wait_for(stage)
        offset.write_text(jump)
    assert run.wait() == 0, run.text()
    assert published(build.store) == undisturbed.content
    check_nothing_done_twice([run], workers=1)
