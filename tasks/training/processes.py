"""The processes of a distributed training: one, or those that `torchrun` has started.

Every process has a part of each batch. Quantities of the whole batch (numbers of images and counted
pixels, losses, gradients) are summed over the processes, so that their number only changes the
order of floating-point additions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.errors.exceptions import ConfigError

if TYPE_CHECKING:
    import torch

# Elements of gradients that are sent together, 64 MiB: enough to use the network's bandwidth.
_BUCKET_ELEMENTS = 2**24


@dataclass(frozen=True)
class Processes:
    """This process of a distributed training.

    Attributes:
        rank: of this process, from 0; only 0 writes.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    def share(self, batch_size: int) -> range:
        """This process's indices in each batch: consecutive, and as many as for the others."""
        bounds = [batch_size * rank // self.size for rank in (self.rank, self.rank + 1)]
        return range(*bounds)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over the processes, in place; the same bits in each of them."""
        if self.size > 1:
            import torch.distributed

            torch.distributed.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Sum the gradients over the processes, in place; missing ones count as 0."""
        if self.size == 1:
            return
        import torch

        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
            flat = self.sum(torch.cat([gradient.flatten() for gradient in bucket]))
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        """Wait until all processes call this."""
        if self.size > 1:
            import torch.distributed

            torch.distributed.barrier()


@contextmanager
def joined_processes(device: str, batch_size: int) -> Iterator[tuple[Processes, str]]:
    """Join the process group of `torchrun`, given by `WORLD_SIZE`, and leave it at the end.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.
        batch_size: samples of a batch, of all processes together.

    Yields:
        The processes, and the device of this one: with several, its own GPU of the machine.

    Raises:
        ConfigError: there are more processes than samples in a batch.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Processes(), device
        return
    if size > batch_size:
        raise ConfigError(
            f"batch_size is {batch_size}, too small for {size} processes: start fewer."
        )
    import torch

    on_gpu = device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(torch.distributed.get_rank(), size), device
    finally:
        torch.distributed.destroy_process_group()


def _buckets(gradients: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    bucket: list[torch.Tensor] = []
    for gradient in gradients:
        if bucket and sum(g.numel() for g in bucket) + gradient.numel() > _BUCKET_ELEMENTS:
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
