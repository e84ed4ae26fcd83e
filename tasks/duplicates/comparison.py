"""Perceptual comparison of two images: the correlation of what both show, once it is aligned.

A near-duplicate may be cut, mirrored, resized, brightened and encoded anew, which no hash of a
whole image survives. Both images come as small square thumbnails, so that sizes and proportions
don't matter. A coarse search then tries which part of the one is which part of the other, on each
axis by itself and also for the mirrored image; the best placements are refined, and what counts is
the normalised cross-correlation (NCC) of the details of what both show, after local contrast
normalisation (Jarrett et al., 2009, section 3.1): many photographs are alike when blurred, a bright
sky above a dark ground, and an object must not outweigh the background. Channels are centred one by
one, so that neither brightness nor contrast matters, but colour does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

THUMBNAIL_SIDE = 48
"""Pixels along a thumbnail."""

Array = NDArray[np.float32]

# Pixels along a part while it is searched for, and while it is compared.
_COARSE_SIDE, _FINE_SIDE = 8, 24
# Sides of the parts that are searched for, as shares of the image, and the starts of each.
_PARTS = ((1.0, 1), (0.9, 3), (0.8, 3))
# Placements may be a twentieth off: true pairs have 0.85 and more, 98 % of others less than this.
_LEAST_COARSE = 0.75
# Placements of each pair that are refined, since another may win once it fits.
_REFINED = 2
# By how much a part is shifted and its ends are moved, as shares of the image, on which axes.
_STEPS = tuple((step, axis) for step in (0.04, 0.04, 0.02, 0.01, 0.005) for axis in (0, 1))
_MOVES = np.array([(0, 0), (1, 1), (-1, -1), (-1, 1), (1, -1)])  # of start and end
# Standard deviation of the blur that tells details from the rest, in pixels of the fine side.
_BLUR = 2.5
# Contrast of details, in levels, that counts half as much as the strongest.
_HALF_CONTRAST = 8.0
# Standard deviation, in levels of 0 to 255, below which an image has nothing to compare.
_LEAST_CONTRAST = 0.5
# Pairs compared at once, which bounds memory.
_TOGETHER = 64


@dataclass(frozen=True, eq=False)
class Comparison:
    """How alike the two images of n pairs are.

    Attributes:
        distance: float32 [n], 1 - NCC of the details of the part that both show; 1 where nothing
            fits.
        mirrored: bool [n], whether the second image is mirrored left to right.
        parts: float32 [n, 2, 2, 2], of each pair and image, on both axes (rows, columns), the start
            and the end of the part that both show, as shares of the image from 0 to 1; of the
            second image as it is after mirroring.
        gain: float32 [n], standard deviation of the second image's part over the first's.
    """

    distance: Array
    mirrored: NDArray[np.bool_]
    parts: Array
    gain: Array

    @classmethod
    def of(cls, blocks: Sequence[Comparison]) -> Comparison:
        """One of the pairs of several."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(each, name) for each in blocks]) for name in names))


def compare(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Comparison:
    """Compare pairs of thumbnails.

    Args:
        first, second: uint8 [n, 48, 48, 3].
    """
    blocks = [
        _compare(first[start : start + _TOGETHER], second[start : start + _TOGETHER])
        for start in range(0, len(first), _TOGETHER)
    ]
    return Comparison.of(blocks or [_nothing_fits(0)])


def _nothing_fits(count: int) -> Comparison:
    whole = np.tile(np.array([0, 1], np.float32), (count, 2, 2, 1))
    return Comparison(
        np.ones(count, np.float32), np.zeros(count, np.bool_), whole, np.ones(count, np.float32)
    )


def _compare(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Comparison:
    result = _nothing_fits(len(first))
    a, b = first.astype(np.float32), second.astype(np.float32)
    pair, mirrored, coarse_parts = _placements(a, b)
    if not len(pair):
        return result
    b = np.where(mirrored[:, None, None, None], b[pair, :, ::-1], b[pair])
    a = a[pair]
    parts, gain = _refined(a, b, coarse_parts)
    correlation = np.einsum("md,md->m", _details(a, parts[:, 0]), _details(b, parts[:, 1]))
    order = np.lexsort((-correlation, pair))
    pairs, first_of_pair = np.unique(pair[order], return_index=True)
    best = order[first_of_pair]
    result.distance[pairs] = 1 - correlation[best]
    result.mirrored[pairs] = mirrored[best]
    result.parts[pairs] = parts[best]
    result.gain[pairs] = gain[best]
    return result


def _ranges() -> Iterator[tuple[float, float]]:
    """Start and end of all parts of an axis, the whole first."""
    for side, starts in _PARTS:
        for start in np.linspace(0, 1 - side, starts):
            yield float(start), float(start) + side


_RANGES = np.array(list(_ranges()), np.float32)  # [r, 2]
# On an axis, either image may show a part of the other: [s, 2] numbers of ranges.
_SHOWN = np.array([(n, 0) for n in range(len(_RANGES))] + [(0, n) for n in range(1, len(_RANGES))])
# Of the [r r, r r] products of all parts of one image with all of another, those where this is so
# on both axes, rows before columns.
_PLACES = np.ravel_multi_index(
    (
        _SHOWN[:, None, 0], _SHOWN[None, :, 0],
        _SHOWN[:, None, 1], _SHOWN[None, :, 1],
    ),
    (len(_RANGES),) * 4,
).reshape(-1)  # fmt: skip


def _placements(a: Array, b: Array) -> tuple[NDArray[np.int64], NDArray[np.bool_], Array]:
    """The most promising placements of n pairs, which are none of pairs that nothing fits.

    Returns:
        For each of m placements: the pair's number, whether the second image is mirrored, and the
        parts [m, 2, 2, 2].
    """
    of_a = _unit_parts(a)
    scores = [of_a @ _unit_parts(other).transpose(0, 2, 1) for other in (b, b[:, :, ::-1])]
    score = np.concatenate([each.reshape(len(a), -1)[:, _PLACES] for each in scores], axis=1)
    best = np.argsort(-score, axis=1, kind="stable")[:, :_REFINED]
    promising = np.take_along_axis(score, best, axis=1) >= _LEAST_COARSE
    pair, _ = np.nonzero(promising)
    mirrored, row, column = np.unravel_index(best[promising], (2, len(_SHOWN), len(_SHOWN)))
    parts = np.stack([_RANGES[_SHOWN[row]], _RANGES[_SHOWN[column]]], axis=2)
    return pair, mirrored.astype(np.bool_), parts


def _unit_parts(images: Array) -> Array:
    """All parts of n images, coarsely, as unit vectors [n, r r, d]."""
    matrix = _resampling(_RANGES, _COARSE_SIDE).reshape(-1, THUMBNAIL_SIDE)
    n, count = len(images), len(_RANGES)
    rows = np.tensordot(images, matrix, (1, 1))  # n w c (r y)
    both = np.tensordot(rows, matrix, (1, 1))  # n c (r y) (s x)
    parts = both.reshape(n, 3, count, _COARSE_SIDE, count, _COARSE_SIDE)
    return _normalised(parts.transpose(0, 2, 4, 3, 5, 1).reshape(n, count**2, -1, 3))[0]


def _normalised(parts: Array, least: float = _LEAST_CONTRAST) -> tuple[Array, Array]:
    """Parts [..., p, c] as unit vectors [..., p c], without the mean of each channel, and their
    standard deviations [...]; zero where these are below the least."""
    centred = (parts - parts.mean(axis=-2, keepdims=True)).reshape(*parts.shape[:-2], -1)
    squares = np.einsum("...d,...d->...", centred, centred)
    deviation = np.sqrt(squares / centred.shape[-1])
    norm = np.where(deviation >= least, np.sqrt(squares), np.inf)
    return centred / norm[..., None].astype(np.float32), deviation.astype(np.float32)


def _resampling(ranges: Array, side: int) -> Array:
    """Matrices [..., side, 48] that resample ranges [..., 2] of an axis to `side` pixels, each the
    average under a triangle that is as wide as it needs to be against aliasing."""
    step = (ranges[..., 1:] - ranges[..., :1]) * (THUMBNAIL_SIDE / side)
    places = np.arange(0.5, side, dtype=np.float32)
    centres = ranges[..., :1] * THUMBNAIL_SIDE - 0.5 + places * step
    away = np.abs(centres[..., None] - np.arange(THUMBNAIL_SIDE, dtype=np.float32))
    weights = np.maximum(1 - away / np.maximum(step, 1)[..., None], 0)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), np.float32)


def _refined(a: Array, b: Array, parts: Array) -> tuple[Array, Array]:
    """Move and stretch the parts of m placements, on one axis after the other, where it pays.

    Returns:
        parts [m, 2, 2, 2], and the second's standard deviation over the first's [m].
    """
    parts, pairs = parts.copy(), np.arange(len(a))
    for step, axis in _STEPS:
        moved = _moved(parts[:, :, axis], step)  # m, moves, image, ends
        correlation, gain = _correlation(
            _cut(a, parts[:, 0, 1 - axis], 1 - axis),
            _cut(b, parts[:, 1, 1 - axis], 1 - axis),
            moved,
        )
        best = correlation.argmax(axis=1)
        parts[:, :, axis] = moved[pairs, best]
    return parts, gain[pairs, best]


def _moved(parts: Array, step: float) -> Array:
    """Parts of an axis, [m, 2, 2] of image and ends, after each of the moves: [m, moves, 2, 2].

    The part of the first image is moved. Where it would leave its image, or could show more of the
    second, both are cut or extended to what both images have.
    """
    first = parts[:, None, 0].astype(np.float64) + step * _MOVES
    second = parts[:, None, 1].astype(np.float64)
    # Where the second image's place x is in the first: start + scale * x
    scale = np.ptp(first, axis=-1) / np.ptp(second, axis=-1)
    start = first[..., 0] - scale * second[..., 0]
    shown = np.stack([np.maximum(start, 0), np.minimum(start + scale, 1)], axis=-1)
    back = (shown - start[..., None]) / scale[..., None]
    return np.stack([shown, np.clip(back, 0, 1)], axis=2).astype(np.float32)


def _cut(images: Array, ranges: Array, axis: int) -> Array:
    """Ranges [m, 2] of an axis of images [m, 48, 48, 3]: [m, 48, 24 3], the other axis first."""
    along = images if axis == 0 else images.transpose(0, 2, 1, 3)
    m = len(images)
    cut = _resampling(ranges, _FINE_SIDE) @ along.reshape(m, THUMBNAIL_SIDE, -1)
    other_first = cut.reshape(m, _FINE_SIDE, THUMBNAIL_SIDE, 3).transpose(0, 2, 1, 3)
    return np.asarray(other_first.reshape(m, THUMBNAIL_SIDE, -1))


def _correlation(a: Array, b: Array, ranges: Array) -> tuple[Array, Array]:
    """NCC [m, k] of images that are cut along one axis, [m, 48, p], for ranges [m, k, 2, 2] of the
    other, and the second's standard deviation over the first's [m, k]."""
    first, first_deviation = _unit_ranges(a, ranges[:, :, 0])
    second, second_deviation = _unit_ranges(b, ranges[:, :, 1])
    ncc = np.einsum("mkd,mkd->mk", first, second)
    gain = np.asarray(second_deviation / np.maximum(first_deviation, 1e-6), np.float32)
    return ncc, gain


def _unit_ranges(images: Array, ranges: Array) -> tuple[Array, Array]:
    """Ranges [m, k, 2] of images that are cut along the other axis, [m, 48, p], as `_normalised`
    gives them."""
    cut = _resampling(ranges, _FINE_SIDE) @ images[:, None]
    return _normalised(cut.reshape(*ranges.shape[:2], -1, 3))


def _details(images: Array, parts: Array) -> Array:
    """Parts [m, 2, 2] of images without their blur and with even contrast, as unit vectors."""
    rows_first = _cut(images, parts[:, 1], 1)
    cut = (_resampling(parts[:, 0], _FINE_SIDE) @ rows_first).reshape(-1, _FINE_SIDE, _FINE_SIDE, 3)
    details = cut - gaussian_filter(cut, (0, _BLUR, _BLUR, 0), mode="nearest")
    energy = gaussian_filter((details**2).mean(axis=-1), (0, _BLUR, _BLUR), mode="nearest")
    even = details / (np.sqrt(energy) + _HALF_CONTRAST)[..., None]
    least = _LEAST_CONTRAST / (_LEAST_CONTRAST + _HALF_CONTRAST)
    return _normalised(even.reshape(len(cut), -1, 3), least)[0]
