"""Training states: complete or absent, and only the latest few kept."""

from __future__ import annotations

import errno
import io
import logging
import os
import time
from pathlib import Path

import pytest
import torch

from flows.upkeep.collect_garbage import find_garbage
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError, StorageError
from tasks.training.state import TrainingStates

REF = ArtifactRef("train", "abc-def")


def content(number: int) -> dict[str, object]:
    return {"trainer": {"weight": torch.full((3,), float(number)), "average": None}}


def files(states: TrainingStates) -> list[str]:
    return sorted(path.name for path in Path(states.folder).iterdir())


@pytest.fixture
def states(store: ArtifactStore) -> TrainingStates:
    return TrainingStates(store, REF, keep=2)


def test_nothing_is_found_before_the_first(states):
    assert states.steps() == []
    assert states.latest() is None


def test_the_latest_comes_back_as_it_was_given(states):
    states.save(9, content(9))
    states.save(10, content(10))
    latest = states.latest()
    assert latest["step"] == 10
    assert torch.equal(latest["trainer"]["weight"], torch.full((3,), 10.0))
    assert latest["trainer"]["average"] is None


def test_only_the_latest_few_stay(states):
    for step in (8, 9, 10, 11):
        states.save(step, content(step))
    assert states.steps() == [10, 11]
    assert len(files(states)) == 2


class _FullDisk(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_is_named_and_harms_no_earlier_state(states, monkeypatch):
    states.save(1, content(1))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda *_: _FullDisk())
        with pytest.raises(StorageError, match="the disk is full"):
            states.save(2, content(2))
    assert states.latest()["step"] == 1


def test_partial_files_of_a_killed_process_are_deleted_and_never_read(states):
    states.save(1, content(1))
    for name, age in (("left", 4000), ("writing", 10)):
        path = Path(states.folder, f"step-00000002.pt.{name}.part")
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    assert states.latest()["step"] == 1
    states.save(2, content(2))
    writing = "step-00000002.pt.writing.part"
    assert files(states) == ["step-00000001.pt", "step-00000002.pt", writing]


@pytest.mark.parametrize("length", [0, 100, 700])
def test_a_damaged_one_is_passed_over_for_the_one_before(states, caplog, length):
    states.save(1, content(1))
    states.save(2, content(2))
    path = Path(states.folder, "step-00000002.pt")
    path.write_bytes(path.read_bytes()[:length])
    with caplog.at_level(logging.WARNING):
        assert states.latest()["step"] == 1
    assert str(path) in caplog.text


def test_a_state_of_another_run_is_not_taken(store, states):
    other = TrainingStates(store, ArtifactRef("train", "other"))
    other.save(5, content(5))
    assert states.latest() is None
    Path(states.folder).mkdir(parents=True)
    Path(other.folder, "step-00000005.pt").rename(Path(states.folder, "step-00000005.pt"))
    assert states.latest() is None


def test_a_write_that_fails_leaves_the_earlier_state(states, monkeypatch):
    states.save(1, content(1))

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tasks.training.state.os.fsync", full_disk)
    with pytest.raises(StorageError, match="disk is full"):
        states.save(2, content(2))
    assert files(states) == ["step-00000001.pt"]
    assert states.latest()["step"] == 1


def test_garbage_collection_and_the_store_do_not_see_them(store, states):
    states.save(1, content(1))
    assert list(find_garbage(store, before=time.time() + 9, unreferenced=True)) == []
    assert store.attempts(REF) == []
    assert store.find(REF) is None


def test_discarding_leaves_nothing_and_may_be_repeated(store, states):
    states.save(1, content(1))
    states.discard()
    states.discard()
    assert states.steps() == []
    assert not Path(states.folder).exists()


def test_deleting_the_artifact_takes_them_along(store, states):
    states.save(1, content(1))
    store.delete(REF)
    assert not Path(states.folder).exists()


def test_states_can_be_on_an_object_store():
    store = ArtifactStore("memory://training-states")
    states = TrainingStates(store, REF, keep=1)
    states.save(1, content(1))
    states.save(2, content(2))
    assert states.steps() == [2]
    assert states.latest()["step"] == 2
    states.discard()
    assert states.latest() is None


def test_at_least_one_is_kept(store):
    with pytest.raises(ConfigError, match="keep_checkpoints is 0"):
        TrainingStates(store, REF, keep=0)
