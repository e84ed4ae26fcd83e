"""The base of all segmenters: input sizes, and batches of images of one size.

The reference evaluates images at their own size, but limits the longer side of ImageNet-S's to
1024 pixels (`datasets/imagenet_s.py`). That limit is the default here for all images, because
attention needs memory in the square of their pixels; results always have the image's own size.

Dimensions:
    b     images of one input size
    h, w  rows, columns of an image
    H, W  rows, columns of the network's input
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
"""Default limit of the longer side of a network's input, pixels."""

# The largest patch of CLIP's ViTs, and the stride of its ResNets.
_SMALLEST_SIDE = 32


class Segmentation:
    """Labels and instances of an image.

    Args:
        labels: see `narrow_labels`.
        instances: see the attributes.

    Attributes:
        narrow_labels: integers of any type, [h, w]: 0 background, 1..k categories.
        instances: by falling score, on the CPU, with masks [h, w] and category ids in 1..k. Masks
            of large images are kept as run lengths: see `Instances.each_mask`.
    """

    def __init__(self, *, labels: NDArray[np.integer[Any]], instances: Instances) -> None:
        self.narrow_labels = labels
        self.instances = instances

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [h, w], converted at each access: 0 background, 1..k categories."""
        return self.narrow_labels.astype(np.int64, copy=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkInput:
    """The network's input for one image.

    Attributes:
        pixels: uint8 [H, W, 3], RGB.
        size: (h, w) of the image and of the result.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]


class Segmenter(Protocol):
    """Predicts labels and instances of an image."""

    def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        """Segment an image: uint8 [h, w, 3], RGB, upright, any size."""


class DenseSegmenter(ABC):
    """The base class of both segmenters: categories, input sizes, and batches of equal size.

    Attributes:
        label: of the model, for people; with `(untrained)` where that is the case.
        categories: k names; label i is `categories[i - 1]`.
        untrained: predictions are meaningless.
        highest_score: of all instances so far, including those left out for their scores; None
            before the first.
    """

    def __init__(
        self, label: str, categories: tuple[str, ...], *, untrained: bool, image_size: int
    ) -> None:
        if image_size != 0 and image_size < _SMALLEST_SIDE:
            raise ConfigError(
                f"image_size is {image_size}: use at least {_SMALLEST_SIDE}, or 0 for images as"
                " they are."
            )
        self.label = label
        self.categories = categories
        self.untrained = untrained
        self.image_size = image_size
        self.highest_score: float | None = None

    def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        """Segment one image.

        Args:
            pixels: uint8 [h, w, 3], RGB, upright, any size.

        Raises:
            ValueError: another shape or type.
            ConfigError: the device's memory is too small; the text says what to reduce.
        """
        (segmentation,) = self.segment_batch([pixels])
        return segmentation

    def segment_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        """Segment images; those of the same input size pass the network as one batch.

        Results are the same as those of `segment` up to rounding, and in the order of the images.
        Arguments and errors are those of `segment`.
        """
        for pixels in images:
            _check_pixels(pixels)
        return self.segment_inputs([self.input_of(Image.fromarray(each)) for each in images])

    def input_of(self, image: Image.Image) -> NetworkInput:
        """The network's input for an image, RGB and upright. `segment_inputs` needs nothing else,
        so that a large image can be freed before."""
        height, width = network_size(image.height, image.width, self.image_size)
        seen = image
        if image.size != (width, height):
            seen = image.resize((width, height), Image.Resampling.BILINEAR)
        return NetworkInput(pixels=np.asarray(seen), size=(image.height, image.width))

    def segment_inputs(self, inputs: Sequence[NetworkInput]) -> list[Segmentation]:
        """As `segment_batch`, for images prepared by `input_of`."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, seen in enumerate(inputs):
            groups.setdefault(seen.pixels.shape, []).append(index)
        results: dict[int, Segmentation] = {}
        for indices in groups.values():
            group = [inputs[index] for index in indices]
            results |= zip(indices, self._segment_group(group), strict=True)
        return [results[index] for index in range(len(inputs))]

    def _segment_group(self, inputs: list[NetworkInput]) -> list[Segmentation]:
        """Segment images of one input size."""
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
                f"The device's memory is too small for {len(inputs)} images of {width} x"
                f" {height} at a time: use a smaller batch or image size, or the device cpu."
            ) from error

    def _label_type(self) -> torch.dtype:
        """The narrowest type for all labels."""
        import torch

        types = (torch.uint8, torch.int16, torch.int32)
        return next(each for each in types if len(self.categories) <= torch.iinfo(each).max)

    def _at_least(self, min_score: float, instances: Instances) -> Instances:
        """The instances with at least that score, on the CPU."""
        if len(instances.scores):
            self.highest_score = max(self.highest_score or 0.0, float(instances.scores.max()))
        return instances.chosen(instances.scores >= min_score).cpu()

    @abstractmethod
    def _segment_images(self, images: Tensor, sizes: list[tuple[int, int]]) -> list[Segmentation]:
        """Segment a batch: uint8 [b, 3, H, W], and each image's own (h, w)."""


def network_size(height: int, width: int, image_size: int) -> tuple[int, int]:
    """(H, W) of the network's input for an image.

    A longer side above `image_size` (0: no limit) is reduced to it, and the shorter one rounded
    down, as in the reference (`datasets/augmentations/geometric_transforms.py`, `compute_size`).
    Sides below the largest patch are enlarged to it without regard to the aspect ratio; results are
    resized back.
    """
    longer = max(height, width)
    if image_size and longer > image_size:
        height = int(height / longer * image_size)
        width = int(width / longer * image_size)
    return max(height, _SMALLEST_SIDE), max(width, _SMALLEST_SIDE)


def _check_pixels(pixels: NDArray[np.uint8]) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"pixels must be uint8 [h, w, 3], got {pixels.dtype} {pixels.shape}")
