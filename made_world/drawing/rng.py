"""Seeded random choices, derived from uniform numbers alone.

NumPy keeps the bit generator's uniform numbers the same between versions; the methods of
distributions may change. A key (seed, number of the image, stream) gives the same choices on every
machine and in every order of making images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Choice = TypeVar("Choice")


class Rng:
    """A stream of choices; `key` are whole numbers from 0 up."""

    def __init__(self, *key: int) -> None:
        if any(part < 0 for part in key):
            raise ValueError(f"The seed and number of an image must not be negative, got {key}.")
        self._random = np.random.default_rng(list(key)).random

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(self._random())

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int((high - low + 1) * float(self._random()))

    def chance(self, share: float) -> bool:
        """True in this share of cases."""
        return float(self._random()) < share

    def one_of(self, choices: Sequence[Choice]) -> Choice:
        """One of the choices, all equally likely."""
        return choices[int(len(choices) * float(self._random()))]

    def permutation(self, count: int) -> list[int]:
        """The numbers below `count` in random order."""
        return [int(place) for place in np.argsort(self._random(count), kind="stable")]

    def field(self, *shape: int) -> NDArray[np.float32]:
        """Numbers in [0, 1) in an array."""
        return np.asarray(self._random(shape), dtype=np.float32)
