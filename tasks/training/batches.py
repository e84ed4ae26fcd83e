"""Batches of training samples, made ahead by worker processes.

A batch's samples depend only on its iteration, and a sample only on its number. The number of
workers changes nothing.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

from storage.errors.exceptions import ZutisError
from tasks.training.processes import Processes
from tasks.workers.shared_memory import send_tensors_through_pipes, shared_memory_holds
from tasks.workers.worker_processes import ignore_sigterm


class Samples(Protocol):
    """Samples by number, such as `tasks.training.samples.TrainingSamples`."""

    def __getitem__(self, number: int) -> Any: ...


def batches_from(
    samples: Samples,
    collate: Callable[[Sequence[Any]], Any],
    *,
    first_iteration: int,
    iterations: int,
    batch_size: int,
    processes: Processes,
    workers: int,
    pin_memory: bool = False,
) -> Generator[Any]:
    """This process's part of the batches of iterations `first_iteration` to `iterations` - 1.

    Always close the generator, which ends the workers. Otherwise Python waits for them for ever
    at its exit.

    Args:
        samples: numbers 0 to `iterations` · `batch_size` - 1; picklable.
        collate: makes a batch of samples.
        first_iteration: from 0.
        iterations: of the whole run.
        batch_size: of all processes together: iteration s has the samples from s · `batch_size`.
        processes: this one takes its share of each batch.
        workers: processes that make batches ahead; 0: batches are made on demand.
        pin_memory: use page-locked memory, from which a GPU copies asynchronously.

    Yields:
        What `collate` returns, or the ZutisError that a sample raised: raised in a worker, it would
        arrive as a text with tracebacks.
    """
    import torch
    from torch.utils.data import DataLoader

    share = processes.share(batch_size)
    numbers = [
        range(iteration * batch_size + share.start, iteration * batch_size + share.stop)
        for iteration in range(first_iteration, iterations)
    ]
    through_pipes = bool(workers) and not shared_memory_holds(
        samples, collate, numbers[0] if numbers else (), workers
    )
    loader: DataLoader[Any] = DataLoader(
        _WithErrorsAsSamples(samples),  # type: ignore[arg-type]
        batch_sampler=numbers,  # type: ignore[arg-type]
        num_workers=workers,
        multiprocessing_context=_worker_context() if workers else None,
        collate_fn=_Collate(collate),
        pin_memory=pin_memory,
        worker_init_fn=_begin_with_pipes if through_pipes else ignore_sigterm,
        # Starting workers draws a number, by default from torch's own random state, which would
        # then depend on how often a run was resumed.
        generator=torch.Generator(),
    )
    batches = iter(loader)
    try:
        yield from batches
    finally:
        del batches


def _worker_context() -> multiprocessing.context.BaseContext:
    """Workers are forked from a small server and not from this process, because a fork inherits
    the locks of its threads (Prefect's, the terminal's, OpenMP's) in any state."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "tasks.training.sample_rendering"])
    return context


def _begin_with_pipes(worker: int) -> None:
    ignore_sigterm(worker)
    send_tensors_through_pipes()


class _WithErrorsAsSamples:
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __getitem__(self, number: int) -> Any:
        try:
            return self._samples[number]
        except ZutisError as error:
            return error


class _Collate:
    def __init__(self, collate: Callable[[Sequence[Any]], Any]) -> None:
        self._collate = collate

    def __call__(self, samples: Sequence[Any]) -> Any:
        errors = (sample for sample in samples if isinstance(sample, ZutisError))
        return next(errors, None) or self._collate(samples)
