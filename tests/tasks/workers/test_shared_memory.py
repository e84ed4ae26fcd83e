"""Batches in containers with little shared memory."""

from __future__ import annotations

import logging
import multiprocessing
from typing import Any

import pytest
import torch

from tasks.training.batches import batches_from
from tasks.training.processes import Processes
from tasks.workers import shared_memory
from tasks.workers.shared_memory import free_shared_memory, shared_memory_holds
from tests.support.runs.training_samples import Numbers, as_list

MANY = 1 << 40


class Images:
    """Samples of a megabyte each."""

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.full((1 << 18,), float(number))


def stacked(samples: Any) -> torch.Tensor:
    return torch.stack(list(samples))


class CannotBeSent:
    def __reduce__(self) -> Any:
        if multiprocessing.parent_process() is None:
            return CannotBeSent, ()
        raise OSError("unable to allocate shared memory(shm) for file </torch_1>")


def unsendable(samples: Any) -> CannotBeSent:
    return CannotBeSent()


def batches(samples: Any, collate: Any) -> Any:
    return batches_from(
        samples, collate, first_iteration=0, iterations=3, batch_size=2, processes=Processes(),
        workers=1,
    )  # fmt: skip


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch):
    """Set the free shared memory, in bytes."""
    return lambda size: monkeypatch.setattr(shared_memory, "free_shared_memory", lambda: size)


def test_batches_that_fit_use_shared_memory(free, caplog):
    free(2 * 2 * 4 * (1 << 20) + 100_000)
    assert shared_memory_holds(Images(), stacked, (0, 1), workers=1)
    assert not caplog.records


def test_batches_that_do_not_fit_are_reported_with_advice(free, caplog):
    free(15_000_000)
    with caplog.at_level(logging.WARNING, "tasks"):
        assert not shared_memory_holds(Images(), stacked, (0, 1), workers=1)
    [record] = caplog.records
    text = record.getMessage()
    assert text.startswith("Shared memory has 15 MB left, and batches of 1 workers may need 17 MB")
    assert "--shm-size" in text


def test_systems_without_shared_memory_are_not_warned(free):
    free(None)
    assert shared_memory_holds(Images(), stacked, (0, 1), workers=1)


def test_this_machine_has_a_size(monkeypatch, tmp_path):
    assert free_shared_memory() is None or free_shared_memory() >= 0
    monkeypatch.setattr(shared_memory, "_SHARED_MEMORY", tmp_path / "none")
    assert free_shared_memory() is None


@pytest.mark.slow
def test_batches_are_the_same_through_pipes(free):
    free(MANY)
    shared = list(batches(Images(), stacked))
    free(1)
    piped = list(batches(Images(), stacked))
    assert [batch.is_shared() for batch in shared] == [True] * 3
    assert [batch.is_shared() for batch in piped] == [False] * 3
    for one, other in zip(shared, piped, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_an_error_comes_through_pipes_in_its_batchs_place(free):
    free(1)
    *_, last = batches_from(
        Numbers(), as_list, first_iteration=0, iterations=4, batch_size=4, processes=Processes(),
        workers=1,
    )  # fmt: skip
    assert str(last) == "Sample 13 is damaged."


@pytest.mark.slow
def test_a_batch_that_cannot_be_handed_over_is_not_waited_for(free):
    free(MANY)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(batches(Numbers(), unsendable))
