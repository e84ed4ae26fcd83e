"""Copy-paste augmentation: crops of images, with objects of other images pasted on.

The first image of a training sample is the canvas, with the surroundings of its object; of each
further image only the object is pasted, at a random place, over earlier content (ZUTIS, section
3.3; reference: `datasets/augmentations/copy_paste.py`, `geometric_transforms.py`). Here are the
arithmetic of the views and the canvas; `photometric` changes colours.

Unlike the reference, which loses the last row and the last column of every object that it pastes
(it takes `last - first` for the size of an object's box), an object is pasted whole.

Dimensions:
    s     rows and columns of the crop, which is square
    h, w  rows, columns of a part of it
    n     objects, fully hidden ones included
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

_MOST_INSTANCES = 255
_Label = TypeVar("_Label", bound=np.generic)


@dataclass(frozen=True)
class Box:
    """Rows `top..bottom - 1` and columns `left..right - 1`."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def with_margin(self, margin: int, size: int) -> Box:
        """Grown by `margin` on all sides, as far as a square of `size` has room."""
        return Box(
            max(self.top - margin, 0),
            max(self.left - margin, 0),
            min(self.bottom + margin, size),
            min(self.right + margin, size),
        )

    def intersection(self, other: Box) -> Box:
        """The common part; of no height or width if there is none."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return Box(top, left, max(bottom, top), max(right, left))

    def moved(self, down: int, right: int) -> Box:
        return Box(self.top + down, self.left + right, self.bottom + down, self.right + right)


@dataclass(frozen=True)
class View:
    """A square crop of a scaled image, filled up where the image is smaller than the crop.

    Attributes:
        height, width: of the scaled image.
        top, left: of the crop, in the scaled image; negative where it begins before the image.
        size: rows and columns of the crop.
    """

    height: int
    width: int
    top: int
    left: int
    size: int

    @property
    def image(self) -> Box:
        """The image's box in the crop; all of the crop if the image covers it."""
        whole = Box(0, 0, self.height, self.width).moved(-self.top, -self.left)
        return whole.intersection(Box(0, 0, self.size, self.size))

    def in_scaled_image(self, box: Box) -> Box:
        """A box of the crop in the scaled image's rows and columns."""
        return box.moved(self.top, self.left)

    def labels(self, label_map: npt.NDArray[_Label]) -> npt.NDArray[_Label]:
        """The label map or mask of the unscaled image, scaled and cut to the crop.

        Each pixel gets the label under its centre. (The reference's nearest neighbour takes that
        under its upper left corner, and so moves masks by up to half a pixel against images.)

        Args:
            label_map: integer or bool [H, W].

        Returns:
            The same type, [h, w] of `image`.
        """
        seen = self.in_scaled_image(self.image)
        rows = _source_indices(seen.top, seen.bottom, self.height, label_map.shape[0])
        columns = _source_indices(seen.left, seen.right, self.width, label_map.shape[1])
        return label_map.take(rows, axis=0).take(columns, axis=1)


def view(
    height: int,
    width: int,
    size: int,
    *,
    scale: float,
    fill_first: tuple[bool, bool],
    offset: tuple[float, float],
) -> View:
    """The crop of an image.

    Args:
        height, width: of the image, before it is scaled.
        size: rows and columns of the crop.
        scale: above 0.
        fill_first: whether rows, and columns, that a small image lacks are put before it.
        offset: two numbers in [0, 1): which of the possible rows, and columns, of an image that
            is larger than the crop is its first.
    """
    # At least one pixel: the reference takes int(w * scale), and fails where that is 0.
    height, width = max(int(height * scale), 1), max(int(width * scale), 1)
    top, left = (
        uniform_index(u, side - size + 1) if side >= size else (side - size) * first
        for side, first, u in zip((height, width), fill_first, offset, strict=True)
    )
    return View(height, width, top, left, size)


def uniform_index(u: float, count: int) -> int:
    """One of `count` indices, all equally likely for a `u` that is uniform in [0, 1)."""
    return min(int(u * count), count - 1)


def bounding_box(mask: npt.NDArray[np.bool_]) -> Box | None:
    """The smallest box around the true pixels of bool [h, w]; None if there are none."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    return Box(top, int(columns[0]), bottom, int(columns[-1]) + 1)


class Canvas:
    """The first image's crop, onto which objects are pasted.

    Later objects hide earlier ones, in the labels and in the instances alike. An object may have
    no pixel left; its instance stays, empty, as it does in the reference.

    Args:
        pixels: uint8 [3, s, s]; changed in place.
        labels: integer [s, s]: 0 background, category_id on the first object, the ignore label
            where there is no image; changed in place.
        first: bool [s, s], the first object; or several, uint8 [s, s]: 0 none, i the i-th object.
        count: of the first objects.

    Raises:
        ValueError: sizes that differ.
    """

    def __init__(
        self,
        pixels: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.integer],
        first: npt.NDArray[np.bool_] | npt.NDArray[np.uint8],
        count: int = 1,
    ) -> None:
        if not pixels.shape[1:] == labels.shape == first.shape:
            raise ValueError(
                "pixels, labels and first object must have one size, got "
                f"{list(pixels.shape)}, {list(labels.shape)} and {list(first.shape)}"
            )
        self.pixels, self.labels = pixels, labels
        self._instances = first.astype(np.uint8)  # 0: none; i: the i-th object
        self._count = count

    def skip(self) -> None:
        """Count an object that the crop of its own image leaves out."""
        self._count += 1
        assert self._count <= _MOST_INSTANCES, "instances are numbered in 8 bits"

    def paste(
        self,
        pixels: npt.NDArray[np.uint8],
        mask: npt.NDArray[np.bool_],
        label: int,
        position: tuple[float, float],
    ) -> Box:
        """Paste an object where it fits in whole.

        Args:
            pixels: uint8 [3, h, w], h and w at most s.
            mask: bool [h, w], the object.
            label: its category_id.
            position: two numbers in [0, 1): which of the possible rows, and columns, is its first.

        Returns:
            Where it was pasted.

        Raises:
            ValueError: the object is larger than the canvas.
        """
        (height, width), size = mask.shape, len(self.labels)
        if height > size or width > size:
            raise ValueError(f"an object of {height} x {width} does not fit on {size} x {size}")
        self.skip()
        top = uniform_index(position[0], size - height + 1)
        left = uniform_index(position[1], size - width + 1)
        place = np.s_[top : top + height, left : left + width]
        np.copyto(self.pixels[:, *place], pixels, where=mask)
        np.copyto(self.labels[place], label, where=mask, casting="unsafe")
        np.copyto(self._instances[place], self._count, where=mask, casting="unsafe")
        return Box(top, left, top + height, left + width)

    def instances(self) -> npt.NDArray[np.bool_]:
        """bool [n, s, s]: the visible part of each object, in the order of pasting; disjoint."""
        numbers = np.arange(1, self._count + 1, dtype=np.uint8)
        visible: npt.NDArray[np.bool_] = self._instances == numbers[:, None, None]
        return visible


def _source_indices(start: int, stop: int, scaled: int, size: int) -> npt.NDArray[np.int64]:
    """Indices into `size` of the centres of start..stop - 1 of `scaled`."""
    return (2 * np.arange(start, stop) + 1) * size // (2 * scaled)
