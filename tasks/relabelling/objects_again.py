"""The objects of a sample after a trained network has looked at them again.

Dimensions:
    h, w  rows, columns of an image
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from storage.images.masks import run_lengths
from tasks.packing.second_look_sentence import DISAGREED, LOW_QUALITY, NOT_LEARNED, SHARPENED
from tasks.relabelling.second_look import Mask, look_again
from zutis_model.refinement.mask_statistics import intersection_over_union, mask_statistics

_MOST_COVERED: Final = 0.2
"""Share of a new object's pixels that labelled objects may have."""

_SAME: Final = 0.5
"""IoU from which a nameless object is the one that the network has found."""


@dataclass(frozen=True, eq=False)
class Found:
    """An instance that the network has found.

    Attributes:
        category_id: of the data set.
        score: 0..1.
        mask: bool [h, w].
    """

    category_id: int
    score: float
    mask: Mask


@dataclass(frozen=True, eq=False)
class FirstLabel:
    """An object as the data set has it.

    Attributes:
        category_id: 0 of an object without a name.
        mask: bool [h, w].
        quality: 0..1, or None.
        is_learned: its category was part of the training.
    """

    category_id: int
    mask: Mask
    quality: float | None
    is_learned: bool


@dataclass(frozen=True, eq=False)
class Again:
    """What became of an object.

    Attributes:
        outcome: see `second_look_sentence`.
        agreement: IoU, 0..1, of its first mask and the network's.
        iou_with_first: of its mask with the first one.
        score: of the instance that agrees with it; None where none does.
        changed: the JSON's new entries on its mask; empty of a mask that stays.
    """

    outcome: str
    agreement: float
    iou_with_first: float
    score: float | None
    changed: dict[str, Any]


def settled(label: FirstLabel, least_quality: float) -> Again | None:
    """What is known of an object without a look at the image; None where it has to be looked at."""
    if not label.is_learned:
        return Again(NOT_LEARNED, 0.0, 1.0, None, {})
    if label.quality is not None and label.quality < least_quality:
        return Again(LOW_QUALITY, 0.0, 1.0, None, {})
    return None


def again(
    pixels: npt.NDArray[np.uint8],
    label: FirstLabel,
    region: Mask,
    found: Sequence[Found],
    least_agreement: float,
) -> Again:
    """Look at an object that is not settled.

    Args:
        pixels: uint8 [h, w, 3], RGB.
        region: bool [h, w], all that the network takes for its category.
        found: instances of all categories.
        least_agreement: see `relabel_shard.Config`.
    """
    own = [each for each in found if each.category_id == label.category_id]
    look = look_again(pixels, label.mask, [region, *(each.mask for each in own)], least_agreement)
    scored = zip(look.overlaps[1:], (each.score for each in own), strict=True)
    overlap, score = max(scored, default=(0.0, 0.0))
    agreed = score if overlap and overlap >= least_agreement else None
    if not look.is_sharpened:
        return Again(DISAGREED, look.agreement, 1.0, agreed, {})
    same = intersection_over_union(look.mask, label.mask)
    changed = mask_facts(look.mask, look.unrefined)
    return Again(SHARPENED, look.agreement, same, agreed, changed)


def uncovered(found: Sequence[Found], labelled: Sequence[Mask]) -> list[Found]:
    """The instances that lie where no labelled object does, by falling score; where two cover each
    other, the better one."""
    free: list[Found] = []
    for each in sorted(found, key=lambda one: -one.score):
        taken = [*labelled, *(one.mask for one in free)]
        covered = np.any(taken, axis=0) & each.mask if taken else np.zeros_like(each.mask)
        if np.count_nonzero(covered) <= _MOST_COVERED * np.count_nonzero(each.mask):
            free.append(each)
    return free


def is_same(nameless: Mask, found: Found) -> bool:
    """Whether an object without a name is the one that the network has found."""
    return intersection_over_union(nameless, found.mask) >= _SAME


def mask_facts(mask: Mask, unrefined: Mask) -> dict[str, Any]:
    """What a sample's JSON says of a mask, bool [h, w], and the same before it was snapped."""
    statistics = mask_statistics(mask, unrefined)
    return {
        "mask": run_lengths(mask),
        "area": statistics.area_fraction,
        "border_contact": statistics.border_contact,
        "components": statistics.components,
        "refiner_agreement": statistics.refiner_agreement,
    }
