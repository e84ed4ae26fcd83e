"""Candidate pairs that a comparison of the images confirms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import compress

import numpy as np
import pyarrow as pa

from tasks.duplicates.candidates import Pairs
from tasks.duplicates.comparison import Comparison, compare
from tasks.duplicates.thumbnails import Thumbnails

# Pairs compared by one thread at a time, and by all before what they settle is looked at. Part of
# the result, since pairs that are settled aren't compared.
_OF_A_THREAD, _AT_ONCE = 64, 512

# What the way in which two images differ says of them.
_CROPPED_BELOW = 0.97
_RESIZED_BEYOND = 1.2
_BRIGHTER_BEYOND = 1.1


@dataclass(frozen=True)
class Match:
    """Two images that show the same.

    Attributes:
        first, second: their numbers.
        similarity: inner product of their embeddings.
        distance: see `comparison.Comparison`, to four decimals.
        way: how they differ: `mirrored`, `cropped`, `resized`, `brightness`, those that apply in
            this order with commas, or `encoded` for none of these.
    """

    first: int
    second: int
    similarity: float
    distance: float
    way: str


def confirm(
    pairs: Pairs,
    thumbnails: Thumbnails,
    sizes: np.ndarray,
    *,
    greatest: float,
    threads: int,
    is_settled: Callable[[int, int], bool],
    settle: Callable[[int, int], object],
) -> Iterator[Match]:
    """Compare pairs, the most similar first.

    Args:
        pairs: numbers of images.
        thumbnails: of the images; pairs with an unreadable one are left out.
        sizes: int [m, 2], height and width of the images, pixels.
        greatest: distance of a pair that is confirmed.
        threads: that compare.
        is_settled: whether a pair need not be compared, for what is known by then.
        settle: is told of each match.

    Yields:
        Matches, the most similar first.
    """
    readable = thumbnails.readable[pairs.first] & thumbnails.readable[pairs.second]
    order = np.lexsort((pairs.second, pairs.first, -pairs.similarity))
    waiting = iter(order[readable[order]].tolist())
    with ThreadPoolExecutor(threads, thread_name_prefix="compare") as pool:
        while some := _unsettled(waiting, pairs, is_settled):
            chosen = np.array(some)
            first, second = pairs.first[chosen], pairs.second[chosen]
            comparison = _compare_in(pool, thumbnails, first, second)
            distance = np.round(comparison.distance.astype(np.float64), 4)
            ways = describe(comparison, sizes[first], sizes[second])
            for place in np.flatnonzero(distance <= greatest).tolist():
                a, b = int(first[place]), int(second[place])
                if is_settled(a, b):
                    continue
                settle(a, b)
                similarity = float(pairs.similarity[chosen[place]])
                yield Match(a, b, similarity, float(distance[place]), ways[place])


def _unsettled(
    waiting: Iterator[int], pairs: Pairs, is_settled: Callable[[int, int], bool]
) -> list[int]:
    """The next pairs that have to be compared."""
    some: list[int] = []
    for number in waiting:
        if not is_settled(int(pairs.first[number]), int(pairs.second[number])):
            some.append(number)
            if len(some) == _AT_ONCE:
                break
    return some


def _compare_in(
    pool: ThreadPoolExecutor, thumbnails: Thumbnails, first: np.ndarray, second: np.ndarray
) -> Comparison:
    def part(start: int) -> Comparison:
        here = slice(start, start + _OF_A_THREAD)
        return compare(thumbnails[first[here]], thumbnails[second[here]])

    return Comparison.of(list(pool.map(part, range(0, len(first), _OF_A_THREAD))))


def describe(comparison: Comparison, first: np.ndarray, second: np.ndarray) -> list[str]:
    """How the images of n pairs differ, as `Match.way`.

    Args:
        comparison: of the pairs.
        first, second: int [n, 2], height and width of their images, pixels.
    """
    shares = comparison.parts[..., 1] - comparison.parts[..., 0]  # n, image, axis
    pixels = shares * np.stack([first, second], axis=1)
    ratio = (pixels[:, 1] / np.maximum(pixels[:, 0], 1e-6)).mean(axis=1)
    words = ("mirrored", "cropped", "resized", "brightness")
    apply = zip(
        comparison.mirrored.tolist(),
        (shares.min(axis=(1, 2)) < _CROPPED_BELOW).tolist(),
        _beyond(ratio, _RESIZED_BEYOND).tolist(),
        _beyond(comparison.gain, _BRIGHTER_BEYOND).tolist(),
        strict=True,
    )
    return [",".join(compress(words, applies)) or "encoded" for applies in apply]


def _beyond(ratio: np.ndarray, most: float) -> np.ndarray:
    return np.asarray((ratio > most) | (ratio < 1 / most))


def sizes_of(records: pa.Table) -> np.ndarray:
    """int [m, 2], height and width of the images of records."""
    return np.stack([records["height"].to_numpy(), records["width"].to_numpy()], axis=1)
