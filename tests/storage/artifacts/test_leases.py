"""Leases: builds and collectors exclude each other, and dead processes block none."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from pathlib import Path

import pytest

from storage.artifacts.leases import (
    COLLECTING,
    DEAD_AFTER_SECONDS,
    RUNNING,
    collecting,
    forget,
    leases,
    using,
)
from storage.artifacts.store import ArtifactStore
from storage.errors.exceptions import StorageError
from tests.support.files.small_artifacts import publish


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path: Path) -> ArtifactStore:
    if request.param == "local":
        return ArtifactStore(str(tmp_path / "store"))
    return ArtifactStore(f"memory://{uuid.uuid4().hex}/store")


@pytest.fixture
def local(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


def leave_behind(store: ArtifactStore, folder: str, title: str = "", age: float = 0.0) -> Path:
    """The lease of a killed process, whose last heartbeat is that many seconds ago."""
    path = Path(store.root, folder, f"{uuid.uuid4().hex}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {"what": "build", "title": title, "host": "gone", "pid": 1, "started": "2020"}
    path.write_text(json.dumps(fields))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def wait_for(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_a_run_is_announced_while_it_runs(store):
    with using(store, "build", "coco from images"):
        [lease] = leases(store)
        assert (lease.what, lease.title, lease.pid) == ("build", "coco from images", os.getpid())
        assert lease.alive
        with collecting(store) as running:
            assert [lease.what for lease in running] == ["build"]
    assert leases(store) == []
    with collecting(store) as running:
        assert running == []
    assert leases(store, COLLECTING) == []


def test_announcements_are_no_stages(store):
    with using(store, "build", ""), collecting(store):
        publish(store)
        assert store.stages() == ["make"]


def test_a_run_ends_its_announcement_when_it_fails(store):
    with pytest.raises(ZeroDivisionError), using(store, "build", ""):
        raise ZeroDivisionError
    assert leases(store) == []


def test_a_run_keeps_giving_signs_of_life(local):
    with using(local, "build", "", heartbeat_seconds=0.02):
        [path] = Path(local.root, RUNNING).glob("*.json")
        old = time.time() - 2 * DEAD_AFTER_SECONDS
        os.utime(path, (old, old))
        wait_for(lambda: path.stat().st_mtime > old + 1)
        assert leases(local)[0].alive


def test_a_build_waits_until_a_collector_has_ended(local):
    begun = threading.Event()

    def build() -> None:
        with using(local, "build", "", heartbeat_seconds=0.02):
            begun.set()

    thread = threading.Thread(target=build)
    with collecting(local) as running:
        assert running == []
        thread.start()
        wait_for(lambda: leases(local))
        assert not begun.wait(0.2)
    assert begun.wait(20)
    thread.join()


def test_a_dead_collector_blocks_no_build(local):
    leave_behind(local, COLLECTING, age=DEAD_AFTER_SECONDS + 60)
    with using(local, "build", ""):
        assert len(leases(local)) == 1


def test_a_dead_build_is_listed_as_dead_and_blocks_no_collector(local):
    leave_behind(local, RUNNING, "coco", age=DEAD_AFTER_SECONDS + 60)
    [lease] = leases(local)
    assert not lease.alive
    with collecting(local) as running:
        assert running == []
    forget(local, lease)
    assert leases(local) == []


def test_the_same_run_again_makes_a_dead_one_good(local):
    leave_behind(local, RUNNING, "coco", age=DEAD_AFTER_SECONDS + 60)
    other = leave_behind(local, RUNNING, "voc", age=DEAD_AFTER_SECONDS + 60)
    alive = leave_behind(local, RUNNING, "coco")
    with using(local, "build", "coco"):
        pass
    assert {f"{lease.name}.json" for lease in leases(local)} == {other.name, alive.name}


def test_a_file_that_can_not_be_read_counts_as_a_run(local):
    leave_behind(local, RUNNING).write_text("{")
    with collecting(local) as running:
        assert len(running) == 1


def test_ages_are_measured_by_the_stores_clock(local, monkeypatch):
    """A machine whose clock is a day ahead doesn't take a running build for dead."""
    leave_behind(local, RUNNING, "coco")
    ahead = time.time() + 24 * 3600
    monkeypatch.setattr("storage.artifacts.leases.time.time", lambda: ahead)
    with collecting(local) as running:
        assert len(running) == 1


def test_a_store_that_refuses_loses_the_announcement_and_not_the_run(local, caplog):
    Path(local.root).write_text("a file where the store should be")
    with using(local, "build", ""):
        pass
    assert "not announced" in caplog.text
    with pytest.raises(StorageError), collecting(local):
        pass
