"""Small pictures for the demonstration's page: what was retrieved, and what was masked."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from flows.demo_page import CategoryGallery, GalleryPicture
from flows.demo_scores import Mask, Retrieved, ScoredMask, precisions

Pixels = NDArray[np.uint8]

_PER_KIND: Final = 8
_WORST: Final = 24
_LONGER_SIDE: Final = 192
_DIMMED: Final = 0.35
_FOUND, _TRUE = (255, 214, 0), (0, 200, 255)
_QUALITY: Final = 88


def galleries(
    retrieved: Sequence[Retrieved], masks: Sequence[ScoredMask]
) -> tuple[CategoryGallery, ...]:
    """For each kind, the masks of some pictures that it got, from the first rank to the last."""
    shares = precisions(retrieved)
    return tuple(_gallery(kind, share, masks) for kind, share in shares.items())


def worst(masks: Sequence[ScoredMask]) -> tuple[GalleryPicture, ...]:
    """The masks that agree least with the truth, whose outline they show, too."""
    lowest = sorted(masks, key=lambda one: one.iou)[:_WORST]
    return tuple(_picture(one, f"{one.kind}, IoU {one.iou:.2f}", truth=True) for one in lowest)


def draw_mask(pixels: Pixels, mask: Mask, truth: Mask | None = None) -> bytes:
    """A JPEG with what lies outside the mask dimmed, and the mask's edge in yellow.

    Args:
        pixels: uint8 [h, w, 3], RGB.
        mask: bool [h, w].
        truth: bool [h, w]; its edge is drawn in blue.
    """
    height, width = mask.shape
    scale = _LONGER_SIDE / max(height, width)
    size = (round(width * scale), round(height * scale))
    large = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)).copy()
    inside = _enlarged(mask, size)
    large[~inside] = (large[~inside] * _DIMMED).astype(np.uint8)
    large[_edge(inside)] = _FOUND
    if truth is not None:
        large[_edge(_enlarged(truth, size))] = _TRUE
    file = io.BytesIO()
    Image.fromarray(large).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def as_jpeg(png: bytes) -> bytes:
    """A sheet in a form that a page can carry."""
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _gallery(kind: str, precision: float, masks: Sequence[ScoredMask]) -> CategoryGallery:
    own = [one for one in masks if one.kind == kind]
    shown = list(_spread(own))
    ious = f", mean IoU {np.mean([one.iou for one in own]):.2f}" if own else ""
    return CategoryGallery(
        name=kind,
        note=f"precision {precision:.2f}{ious}",
        pictures=tuple(_picture(one, f"rank {one.rank}, IoU {one.iou:.2f}") for one in shown),
    )


def _spread(masks: Sequence[ScoredMask]) -> Iterator[ScoredMask]:
    """At most `_PER_KIND` of them, evenly from the first to the last."""
    places = np.linspace(0, len(masks) - 1, min(_PER_KIND, len(masks))).round().astype(int)
    yield from (masks[place] for place in places)


def _picture(one: ScoredMask, caption: str, *, truth: bool = False) -> GalleryPicture:
    pixels = np.asarray(Image.open(io.BytesIO(one.jpeg)).convert("RGB"))
    return GalleryPicture(
        image=draw_mask(pixels, one.mask, one.truth if truth else None),
        caption=caption,
        right=one.right,
    )


def _enlarged(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at another (width, height), with smooth edges."""
    shares = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    enlarged: Mask = np.asarray(shares) > 127
    return enlarged


def _edge(mask: Mask) -> Mask:
    """The outermost pixels of a mask, two wide."""
    edge: Mask = mask & ~ndimage.binary_erosion(mask, iterations=2, border_value=1)
    return edge
