"""Thumbnails for the demonstration's page: retrieved images with their masks."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from PIL import Image

from flows.demo.page import CategoryGallery, Thumbnail
from flows.demo.scores import Retrieved, ScoredMask, precisions
from tasks.packing.mask_sheet import as_jpeg, draw_mask

_PER_KIND: Final = 8
_WORST: Final = 24


def galleries(
    retrieved: Sequence[Retrieved], masks: Sequence[ScoredMask]
) -> tuple[CategoryGallery, ...]:
    """For each kind, the masks of some retrieved images, from the first rank to the last."""
    shares = precisions(retrieved)
    return tuple(_gallery(kind, share, masks) for kind, share in shares.items())


def worst(masks: Sequence[ScoredMask]) -> tuple[Thumbnail, ...]:
    """The masks with the lowest IoU, with the outline of the ground truth."""
    lowest = sorted(masks, key=lambda one: one.iou)[:_WORST]
    return tuple(_thumbnail(one, f"{one.kind}, IoU {one.iou:.2f}", truth=True) for one in lowest)


def _gallery(kind: str, precision: float, masks: Sequence[ScoredMask]) -> CategoryGallery:
    own = [one for one in masks if one.kind == kind]
    shown = list(_spread(own))
    ious = f", mean IoU {np.mean([one.iou for one in own]):.2f}" if own else ""
    return CategoryGallery(
        name=kind,
        note=f"precision {precision:.2f}{ious}",
        thumbnails=tuple(_thumbnail(one, f"rank {one.rank}, IoU {one.iou:.2f}") for one in shown),
    )


def _spread(masks: Sequence[ScoredMask]) -> Iterator[ScoredMask]:
    """At most `_PER_KIND` of them, evenly from the first to the last."""
    places = np.linspace(0, len(masks) - 1, min(_PER_KIND, len(masks))).round().astype(int)
    yield from (masks[place] for place in places)


def _thumbnail(one: ScoredMask, caption: str, *, truth: bool = False) -> Thumbnail:
    pixels = np.asarray(Image.open(io.BytesIO(one.jpeg)).convert("RGB"))
    return Thumbnail(
        image=as_jpeg(draw_mask(pixels, one.mask, one.truth if truth else None)),
        caption=caption,
        right=one.right,
    )
