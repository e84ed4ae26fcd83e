"""Check whether shared memory can hold the workers' batches, before they are made."""

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

_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - Linux's shared memory, which torch uses
# Batches of a loader: two ahead for each worker, and those in the main process.
_AHEAD: Final = 2
_IN_HAND: Final = 2
# Batches differ in size: images are equal, but there are as many masks as objects.
_MARGIN: Final = 2.0


def shared_memory_holds(
    samples: Any, collate: Callable[[Sequence[Any]], Any], numbers: Sequence[int], workers: int
) -> bool:
    """Whether the batches of all workers fit into shared memory; logs a warning if not.

    Containers have 64 MB of it by default. The size of a batch is estimated from its first sample,
    which is made for the purpose.

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
    except ZutisError:  # it is raised again where the batch is used
        return True
    needed = round(_MARGIN * sample * len(numbers) * (_AHEAD * workers + _IN_HAND))
    if needed <= free:
        return True
    log.warning(
        "Shared memory has %.0f MB left, and batches of %d workers may need %.0f MB: they are sent "
        "through pipes, which is slower. In a container, raise it with docker run --shm-size, or "
        "shm_size of a compose file.",
        free / 1e6, workers, needed / 1e6,
    )  # fmt: skip
    return False


def send_tensors_through_pipes() -> None:
    """From here on this process sends tensors to other processes as arrays, through the pipe.

    torch would use shared memory. A batch for which none is left is lost in a thread of the worker,
    and the training waits for it for ever.
    """
    import torch

    ForkingPickler.register(torch.Tensor, _as_array)


def _as_array(tensor: Tensor) -> tuple[Callable[[Any], Tensor], tuple[Any]]:
    import torch

    return torch.from_numpy, (tensor.numpy(),)


def free_shared_memory() -> int | None:
    """Bytes that are left; None where the system has no such file system."""
    try:
        found = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
