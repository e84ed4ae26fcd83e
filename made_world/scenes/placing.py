"""Placement of objects in an image so that enough of each stays visible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from made_world.drawing.rng import Rng

Mask = NDArray[np.bool_]

LEAST_VISIBLE, LEAST_PIXELS = 0.3, 60
LEAST_INSIDE = 0.72
_TRIES = 24


@dataclass(frozen=True)
class Place:
    """The part of an image that a box covers, and the part of the box that is in the image."""

    rows: slice
    columns: slice
    box_rows: slice
    box_columns: slice

    @property
    def in_image(self) -> tuple[slice, slice]:
        """Index of the image."""
        return self.rows, self.columns

    @property
    def in_box(self) -> tuple[slice, slice]:
        """Index of the box."""
        return self.box_rows, self.box_columns

    def touches(self, other: Place) -> bool:
        """Whether the boxes overlap in the image."""
        pairs = ((self.rows, other.rows), (self.columns, other.columns))
        return all(one.start < two.stop and two.start < one.stop for one, two in pairs)


def place(top: int, left: int, box: tuple[int, ...], image: tuple[int, int]) -> Place:
    """The place of a box [h, w] with its upper left pixel at (top, left), maybe outside."""
    (rows, box_rows), (columns, box_columns) = (
        _overlap(start, length, limit)
        for start, length, limit in zip((top, left), box, image, strict=True)
    )
    return Place(rows, columns, box_rows, box_columns)


def _overlap(start: int, length: int, limit: int) -> tuple[slice, slice]:
    first, last = max(start, 0), max(min(start + length, limit), 0)
    return slice(first, max(first, last)), slice(first - start, max(first, last) - start)


@dataclass(eq=False)
class Arrangement:
    """The masks of an image's objects, back to front.

    Attributes:
        size: (height, width).
        centred: whether objects are nearer the middle than the edges, as people point cameras.
        visible: the visible pixels of each so far.
        whole: number of pixels of each, hidden and outside ones included.
        lasting: of each, whether enough of it stays visible whatever comes in front.
    """

    size: tuple[int, int]
    centred: bool
    visible: list[Mask] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    lasting: list[bool] = field(default_factory=list)

    def add(
        self,
        rng: Rng,
        mask: Mask,
        crowding: float,
        beyond: float,
        inside: float = LEAST_INSIDE,
        lasting: bool = True,
    ) -> tuple[int, int] | None:
        """Put an object in front of the others; None if there is no room.

        Args:
            rng: the image's random choices.
            mask: of the object in its own box [h, w].
            crowding: in what share of tries it is put near another object.
            beyond: what share of its box may lie outside the image.
            inside: what share of its pixels has to lie inside.
            lasting: whether enough of it is to stay visible.

        Returns:
            (top, left) of the box.
        """
        # Mostly more than the least is seen; less only where there is no room otherwise.
        wanted = rng.between(LEAST_VISIBLE, 1.3)
        for attempt in range(_TRIES):
            least = min(max(LEAST_VISIBLE, wanted * (1 - attempt / _TRIES)), 1.0)
            top, left = self._somewhere(rng, mask.shape, crowding, beyond)
            at = place(top, left, mask.shape, self.size)
            full = np.zeros(self.size, dtype=np.bool_)
            full[at.in_image] = mask[at.in_box]
            if self._fits(full, inside * int(mask.sum()), least):
                self.visible = [other & ~full for other in self.visible] + [full]
                self.whole.append(int(mask.sum()))
                self.lasting.append(lasting)
                return top, left
        return None

    def _somewhere(
        self, rng: Rng, box: Sequence[int], crowding: float, beyond: float
    ) -> tuple[int, int]:
        seen = [mask for mask in self.visible if mask.any()]
        near = rng.one_of(seen) if seen and rng.chance(crowding) else None
        corner = []
        for axis, (length, limit) in enumerate(zip(box, self.size, strict=True)):
            out = int(beyond * length)
            low, high = -out, max(limit - length + out, -out)
            at = rng.whole(low, high)
            if self.centred and not out:
                at = (at + rng.whole(low, high)) // 2
            if near is not None:
                places = np.flatnonzero(near.any(axis=1 - axis))
                reach = 0.75 * (length + len(places)) / 2
                at = round(float(places.mean()) - length / 2 + rng.between(-reach, reach))
                at = min(max(at, low), high)
            corner.append(at)
        return corner[0], corner[1]

    def _fits(self, full: Mask, inside: float, least: float) -> bool:
        if full.sum() < max(inside, LEAST_PIXELS):
            return False
        return all(
            (other & ~full).sum() >= max(least * whole, LEAST_PIXELS)
            for other, whole, lasts in zip(self.visible, self.whole, self.lasting, strict=True)
            if lasts
        )
