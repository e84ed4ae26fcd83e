"""Batches from worker processes: their samples, and the end of the workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from storage.errors.exceptions import ArtifactError
from tasks.training.batches import batches_from
from tasks.training.processes import Processes
from tests.support.processes.nursery import ForkedCommand
from tests.support.runs.training_samples import Numbers, as_list


def batches(workers: int, first_iteration: int = 0, rank: int = 0, size: int = 1) -> Any:
    return batches_from(
        Numbers(),
        as_list,
        first_iteration=first_iteration,
        iterations=4,
        batch_size=4,
        processes=Processes(rank, size),
        workers=workers,
    )


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_an_iteration_has_its_own_samples_with_any_number_of_workers(workers: int) -> None:
    assert list(batches(workers))[:3] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert next(batches(workers, first_iteration=2)) == [8, 9, 10, 11]


def test_processes_share_a_batch() -> None:
    shares = [next(batches(0, 1, rank, 3)) for rank in range(3)]
    assert [number for share in shares for number in share] == [4, 5, 6, 7]
    assert max(map(len, shares)) == 2


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_error_comes_in_its_batchs_place(workers: int) -> None:
    *_, last = batches(workers)
    assert isinstance(last, ArtifactError)
    assert str(last) == "Sample 13 is damaged."


@pytest.mark.slow
def test_closing_ends_the_workers() -> None:
    made = batches(2)
    next(made)
    assert len(multiprocessing.active_children()) == 2
    made.close()
    assert not multiprocessing.active_children()


_KILLED_AT_ONCE = """
import os, signal
from test_batches import batches

made = batches(2)
next(made)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_the_workers_of_a_killed_process_end() -> None:
    # They have its standard output, which is at its end once the last of them has ended.
    output, written = os.pipe()
    places = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    with os.fdopen(output, "rb") as reading, Path(os.devnull).open("rb") as nothing:
        killed = ForkedCommand(
            _KILLED_AT_ONCE, [], Path.cwd(), environment, (nothing.fileno(), written, written)
        )
        os.close(written)
        said = reading.read()
    assert killed.wait(200) == -signal.SIGKILL, said
