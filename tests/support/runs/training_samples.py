"""Synthetic training samples, without slow imports: worker processes import this module, and the
libraries of networks would take each of them seconds."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from storage.errors.exceptions import ArtifactError

IGNORE = 255
CROP = 64
CATEGORIES = 4


@dataclass
class Batch:
    images: Tensor
    semantic_masks: Tensor
    instance_masks: Sequence[Tensor]
    object_weights: Sequence[Tensor] | None = None


@dataclass
class Samples:
    """Sample `number` is an image of noise with rectangles; every third has most pixels ignored.

    Attributes:
        damaged: number of a sample that can't be read.
        not_a_number: number of a sample whose image is NaN.
        deadly: number of a sample that kills the process that makes it.
    """

    damaged: int = -1
    not_a_number: int = -1
    deadly: int = -1

    def __getitem__(self, number: int) -> Batch:
        if number == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self.damaged:
            raise ArtifactError(f"Sample {number} is damaged.")
        generator = torch.Generator().manual_seed(number)
        image = torch.randn(3, CROP, CROP, generator=generator)
        semantic = torch.zeros(CROP, CROP, dtype=torch.int64)
        instances = torch.zeros(1 + number % 3, CROP, CROP, dtype=torch.bool)
        for place, mask in enumerate(instances):
            top, left = torch.randint(0, CROP // 2, (2,), generator=generator).tolist()
            mask[top : top + 20, left : left + 24] = True
            semantic[mask] = 1 + (number + place) % (CATEGORIES - 1)
        if number % 3 == 0:
            semantic[8:] = IGNORE
        if number == self.not_a_number:
            image[:] = torch.nan
        return Batch(image[None], semantic[None], [instances])


def collate(samples: Sequence[Batch]) -> Batch:
    return Batch(
        torch.cat([sample.images for sample in samples]),
        torch.cat([sample.semantic_masks for sample in samples]),
        [masks for sample in samples for masks in sample.instance_masks],
    )


class Numbers:
    """Sample i is i; 13 can't be read."""

    def __getitem__(self, number: int) -> int:
        if number == 13:
            raise ArtifactError("Sample 13 is damaged.")
        return number


def as_list(samples: Sequence[int]) -> list[int]:
    return list(samples)
