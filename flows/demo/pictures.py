"""Small pictures for the demonstration's page: what was retrieved, and what was masked."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from PIL import Image

from flows.demo.page import CategoryGallery, GalleryPicture
from flows.demo.scores import Retrieved, ScoredMask, precisions
from tasks.packing.mask_sheet import as_jpeg, draw_mask

_PER_KIND: Final = 8
_WORST: Final = 24


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
        image=as_jpeg(draw_mask(pixels, one.mask, one.truth if truth else None)),
        caption=caption,
        right=one.right,
    )
