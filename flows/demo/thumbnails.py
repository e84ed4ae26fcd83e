"""What the truth adds to the page on a build, and thumbnails of the worst masks."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from PIL import Image

from flows.demo.scores import Retrieved, ScoredMask, precisions
from flows.reports.gathered import Report
from flows.reports.parts import Thumbnail
from flows.reports.thumbnails import TrueLabel, Truth
from tasks.packing.mask_sheet import as_jpeg, draw_mask

_WORST: Final = 24


def with_truth(
    report: Report, retrieved: Sequence[Retrieved], masks: Sequence[ScoredMask]
) -> Report:
    """What the page says of a build, with precision and mean IoU of each kind, and without the
    parts that the demonstration's page has itself."""
    shares = precisions(retrieved)
    galleries = tuple(
        replace(gallery, note=f"{gallery.note}{_truth_of(gallery.name, shares, masks)}")
        for gallery in report.galleries
    )
    return replace(report, galleries=galleries, curves=(), tables=(), commands=())


def _truth_of(kind: str, shares: Mapping[str, float], masks: Sequence[ScoredMask]) -> str:
    """What is known of a kind's images and masks; empty for a category that is none."""
    if kind not in shares:
        return ""
    own = [one.iou for one in masks if one.kind == kind]
    return f", precision {shares[kind]:.2f}" + (f", mean IoU {np.mean(own):.2f}" if own else "")


def true_labels(masks: Sequence[ScoredMask]) -> Truth:
    """The truth of labels, as the page on a build takes it."""
    return {(one.kind, one.image_id): TrueLabel(one.iou, one.right, one.truth) for one in masks}


def worst(masks: Sequence[ScoredMask]) -> tuple[Thumbnail, ...]:
    """The masks with the lowest IoU, with the outline of the ground truth."""
    lowest = sorted(masks, key=lambda one: one.iou)[:_WORST]
    return tuple(_thumbnail(one, f"{one.kind}, IoU {one.iou:.2f}", truth=True) for one in lowest)


def _thumbnail(one: ScoredMask, caption: str, *, truth: bool = False) -> Thumbnail:
    pixels = np.asarray(Image.open(io.BytesIO(one.jpeg)).convert("RGB"))
    return Thumbnail(
        image=as_jpeg(draw_mask(pixels, one.mask, one.truth if truth else None)),
        caption=caption,
        right=one.right,
    )
