"""Masks of one large image as run lengths: a few kilobytes each, instead of a byte a pixel.

Dimensions:
    n     masks
    H, W  rows, columns of the image
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

RunLengths = dict[str, Any]
"""COCO's: `size` [H, W] and compressed `counts`, bytes."""


class RunLengthMasks:
    """A sequence of n masks of one size, each of which is decoded on demand.

    Args:
        encoded: of each mask.
        size: (H, W).
    """

    def __init__(self, encoded: Sequence[RunLengths], size: tuple[int, int]) -> None:
        self.encoded = tuple(encoded)
        self.size = size

    @classmethod
    def of(cls, masks: Iterable[npt.NDArray[np.bool_]], size: tuple[int, int]) -> RunLengthMasks:
        """From masks, bool [H, W] each, which are read one after the other."""
        return cls([encode_mask(mask) for mask in masks], size)

    def __len__(self) -> int:
        return len(self.encoded)

    def __iter__(self) -> Iterator[npt.NDArray[np.bool_]]:
        """The masks' pixels, bool [H, W]: one of them is in memory at a time."""
        for one in self.encoded:
            yield coco_mask.decode(one).view(np.bool_)

    def chosen(self, indices: Iterable[int]) -> RunLengthMasks:
        """The masks at these places, in this order."""
        return RunLengthMasks([self.encoded[index] for index in indices], self.size)

    def areas(self) -> npt.NDArray[np.int64]:
        """Pixels of each mask: int64 [n]."""
        return np.array([coco_mask.area(one) for one in self.encoded], dtype=np.int64)

    def boxes(self) -> Tensor:
        """Outermost pixels x1, y1, x2, y2 of masks of which none is empty: float32 [n, 4]."""
        boxes = np.array([coco_mask.toBbox(one) for one in self.encoded]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2] - 1
        return torch.from_numpy(boxes.astype(np.float32))

    def tensor(self) -> Tensor:
        """All pixels at once: bool [n, H, W]."""
        masks = torch.empty((len(self), *self.size), dtype=torch.bool)
        for place, mask in zip(masks, self, strict=True):
            place.copy_(torch.from_numpy(mask))
        return masks


def encode_mask(mask: npt.NDArray[np.bool_]) -> RunLengths:
    """Run lengths of one mask, bool [H, W]."""
    # pycocotools wants column-major order.
    encoded: RunLengths = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
    return encoded
