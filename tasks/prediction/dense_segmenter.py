"""What all segmenters share: sizes, and pictures of one size that pass the network together.

The reference evaluates pictures at the size that they have, and brings those of ImageNet-S whose
longer side is above 1024 pixels to that (`datasets/imagenet_s.py`). That is the default here for
all pictures, because attention needs memory in the square of their pixels; results always have
the picture's own size.

Dimensions:
    b     pictures that the network sees at one size
    h, w  rows, columns of a picture
    H, W  rows, columns of what the network sees of it
    k     categories, without the background
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.errors.exceptions import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from zutis_model.zutis.instance_prediction import Instances

IMAGE_SIZE = 1024
"""Longer side, in pixels, that a network sees at most unless another is asked for."""

# The largest patch of CLIP's ViTs, and the stride of its ResNets: less can't be seen.
_SMALLEST_SIDE = 32


class Segmentation:
    """What a picture shows.

    Args:
        labels: see `narrow_labels`.
        instances: see the attributes.

    Attributes:
        narrow_labels: integers of any type, [h, w]: 0 background, 1..k categories.
        instances: by falling score, on the CPU, with masks [h, w] and category ids in 1..k. Those
            of large pictures are kept as run lengths: see `Instances.each_mask`.
    """

    def __init__(self, *, labels: NDArray[np.integer[Any]], instances: Instances) -> None:
        self.narrow_labels = labels
        self.instances = instances

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [h, w], eight bytes a pixel, which are made each time: 0 background, 1..k."""
        return self.narrow_labels.astype(np.int64, copy=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkInput:
    """A picture as the network sees it.

    Attributes:
        pixels: uint8 [H, W, 3], RGB.
        size: (h, w) of the picture, which the result has.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]


class Segmenter(Protocol):
    """Whatever says what a picture shows."""

    def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        """Segment a picture: uint8 [h, w, 3], RGB, upright, any size."""


class DenseSegmenter(ABC):
    """What both segmenters share: names, sizes, and pictures of one size that go together.

    Attributes:
        label: of the model, for people; says `(untrained)` where that is so.
        categories: k names; label i is `categories[i - 1]`.
        untrained: predictions mean nothing.
        highest_score: of any instance so far, those that are left out for their scores included;
            None before the first.
    """

    def __init__(
        self, label: str, categories: tuple[str, ...], *, untrained: bool, image_size: int
    ) -> None:
        if image_size != 0 and image_size < _SMALLEST_SIDE:
            raise ConfigError(
                f"image_size is {image_size}: use at least {_SMALLEST_SIDE}, or 0 for pictures as"
                " they are."
            )
        self.label = label
        self.categories = categories
        self.untrained = untrained
        self.image_size = image_size
        self.highest_score: float | None = None

    def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        """Segment one picture.

        Args:
            pixels: uint8 [h, w, 3], RGB, upright, any size.

        Raises:
            ValueError: another shape or type.
            ConfigError: the device has too little memory; the text says what to make smaller.
        """
        (segmentation,) = self.segment_batch([pixels])
        return segmentation

    def segment_batch(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        """Segment pictures; those that the network sees at one size pass it together.

        Together or apart, results are the same up to rounding. Arguments and errors are those of
        `segment`; results come in the order of the pictures.
        """
        for pixels in pictures:
            _check_pixels(pixels)
        return self.segment_inputs([self.input_of(Image.fromarray(each)) for each in pictures])

    def input_of(self, picture: Image.Image) -> NetworkInput:
        """What the network sees of a picture, RGB and upright: all that `segment_inputs` needs, so
        that a large picture needn't be in memory any more by then."""
        height, width = network_size(picture.height, picture.width, self.image_size)
        seen = picture
        if picture.size != (width, height):
            seen = picture.resize((width, height), Image.Resampling.BILINEAR)
        return NetworkInput(pixels=np.asarray(seen), size=(picture.height, picture.width))

    def segment_inputs(self, inputs: Sequence[NetworkInput]) -> list[Segmentation]:
        """As `segment_batch`, of pictures that `input_of` has prepared."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, seen in enumerate(inputs):
            groups.setdefault(seen.pixels.shape, []).append(index)
        results: dict[int, Segmentation] = {}
        for indices in groups.values():
            group = [inputs[index] for index in indices]
            results |= zip(indices, self._segment_group(group), strict=True)
        return [results[index] for index in range(len(inputs))]

    def _segment_group(self, inputs: list[NetworkInput]) -> list[Segmentation]:
        """Pictures that the network sees at one size."""
        import torch

        images = torch.from_numpy(np.stack([seen.pixels for seen in inputs]))
        try:
            with torch.inference_mode():
                return self._segment_images(
                    images.permute(0, 3, 1, 2).contiguous(), [seen.size for seen in inputs]
                )
        except torch.OutOfMemoryError as error:
            height, width, _ = inputs[0].pixels.shape
            raise ConfigError(
                f"The device's memory is too small for {len(inputs)} pictures of {width} x"
                f" {height} at a time: use a smaller batch or image size, or the device cpu."
            ) from error

    def _label_type(self) -> torch.dtype:
        """The narrowest that holds all labels."""
        import torch

        types = (torch.uint8, torch.int16, torch.int32)
        return next(each for each in types if len(self.categories) <= torch.iinfo(each).max)

    def _at_least(self, min_score: float, instances: Instances) -> Instances:
        """The instances with that score or more, on the CPU."""
        if len(instances.scores):
            self.highest_score = max(self.highest_score or 0.0, float(instances.scores.max()))
        return instances.chosen(instances.scores >= min_score).cpu()

    @abstractmethod
    def _segment_images(self, images: Tensor, sizes: list[tuple[int, int]]) -> list[Segmentation]:
        """From uint8 [b, 3, H, W] and each picture's own (h, w)."""


def network_size(height: int, width: int, image_size: int) -> tuple[int, int]:
    """(H, W) at which the network sees a picture.

    A longer side above `image_size` (0: no limit) is brought to it, and the shorter one rounded
    down, as in the reference (`datasets/augmentations/geometric_transforms.py`, `compute_size`).
    Sides below the largest patch are widened to it, whatever that does to their ratio: results
    are stretched back.
    """
    longer = max(height, width)
    if image_size and longer > image_size:
        height = int(height / longer * image_size)
        width = int(width / longer * image_size)
    return max(height, _SMALLEST_SIDE), max(width, _SMALLEST_SIDE)


def _check_pixels(pixels: NDArray[np.uint8]) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"pixels must be uint8 [h, w, 3], got {pixels.dtype} {pixels.shape}")
