"""Whether shared memory can carry what workers make, found out before they make it."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from storage.errors.exceptions import ZutisError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - Linux's, of which torch makes use
# What a loader holds: two batches ahead for each worker, and those that are in the main process.
_AHEAD: Final = 2
_IN_HAND: Final = 2
# Batches differ: pictures of one size, but as many masks as there are objects.
_MARGIN: Final = 2.0


def shared_memory_holds(
    samples: Any, collate: Callable[[Sequence[Any]], Any], numbers: Sequence[int], workers: int
) -> bool:
    """Whether the batches of all workers fit into shared memory; says so in the log if not.

    Containers give 64 MB of it unless they are told to give more. The size of a batch is taken
    from its first sample, which is made for it.

    Args:
        samples: samples by number.
        collate: makes a batch of samples.
        numbers: of the samples of the first batch.
        workers: processes.
    """
    free = free_shared_memory()
    if free is None or not numbers:
        return True
    try:
        sample = len(pickle.dumps(collate([samples[numbers[0]]])))
    except ZutisError:  # it is met again, in its place
        return True
    needed = round(_MARGIN * sample * len(numbers) * (_AHEAD * workers + _IN_HAND))
    if needed <= free:
        return True
    log.warning(
        "Shared memory has %.0f MB left, and batches of %d workers may need %.0f MB: they come "
        "through pipes, which takes longer. In a container: docker run --shm-size, or shm_size of "
        "a compose file.",
        free / 1e6, workers, needed / 1e6,
    )  # fmt: skip
    return False


def send_tensors_through_pipes() -> None:
    """From here on this process hands tensors to others as arrays, whole, in the pipe itself.

    torch would put them into shared memory. A batch that finds none left is lost in a thread of
    the worker, and whoever trains waits for it for ever.
    """
    import torch

    ForkingPickler.register(torch.Tensor, _as_array)


def _as_array(tensor: Tensor) -> tuple[Callable[[Any], Tensor], tuple[Any]]:
    import torch

    return torch.from_numpy, (tensor.numpy(),)


def free_shared_memory() -> int | None:
    """Bytes that are left; None where there is no such thing to look at."""
    try:
        found = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
