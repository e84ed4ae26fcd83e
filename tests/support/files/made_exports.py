"""Contents of exports, made from small data sets, and the masks that are in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.images.masks import run_lengths
from storage.shards.samples import ShardSamples
from storage.shards.writing import Sample, SeveralObjects
from tasks.exporting.contents import Contents, LabelFacts, PlannedImage
from tasks.exporting.numbering import categories_of
from tasks.packing.object_labels import painted
from tests.support.files.small_datasets import stored_sample, write_dataset

Mask = npt.NDArray[np.bool_]

HOSTILE = (
    "red kite",
    'a "quoted", <b>&amp; marked</b> name: #1',
    "first line\nsecond line",
    "\u202egnirts\u202c 鳥 \N{BIRD}",
    "../../escape",
    "RED KITE",
    "null",
)
"""Names of categories that break what writes them carelessly."""


def ring(size: tuple[int, int], *, pieces: int = 1) -> Mask:
    """A ring with a hole, bool [h, w], beside squares that it does not touch."""
    y, x = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(y - size[0] * 0.5, x - size[1] * 0.4)
    mask: Mask = (distance < size[0] * 0.3) & (distance > size[0] * 0.12)
    for number in range(1, pieces):
        mask[2 : 8 + number, 10 * number : 10 * number + 6] = True
    return mask


def box(size: tuple[int, int], top: int, left: int, bottom: int, right: int) -> Mask:
    """A rectangle, bool [h, w]."""
    mask = np.zeros(size, dtype=np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def several_sample(seed: int, objects: Sequence[tuple[int, Mask]]) -> Sample:
    """A sample with several objects: (category_id, mask), 0 for those to be ignored, last."""
    (label, first), size = objects[0], objects[0][1].shape
    sample = stored_sample(seed, label, (size[0], size[1]), first)
    listed = [
        {"category_id": number, "mask_id": f"{place:032x}", "mask": run_lengths(mask)}
        for place, (number, mask) in enumerate(objects)
    ]
    label_map = painted(list(objects), (size[0], size[1]), 255)
    labels = tuple(number for number, _ in objects if number)
    return replace(
        sample,
        facts=sample.facts | {"objects": listed},
        several=SeveralObjects(label_map, labels),
    )


def contents_of(
    folder: Path,
    samples: Sequence[Sample],
    names: Sequence[str] = HOSTILE,
    splits: Mapping[str, str] | None = None,
    left_out: Mapping[str, frozenset[int]] | None = None,
    **changes: Any,
) -> Contents:
    """The contents of a data set that is written to a folder.

    Args:
        folder: where to.
        samples: of the data set; names: of its categories, from 1 on.
        splits: of images, by their keys; others are in `train`.
        left_out: places of objects whose labels are left out, by image.
    """
    write_dataset(folder, samples, dict(enumerate(names, start=1)))
    opened = ShardSamples.open(folder)
    splits, left_out = splits or {}, left_out or {}
    count = len(opened.objects.labels)
    images = [
        PlannedImage(
            sample=i,
            number=i + 1,
            stem=opened.key(i),
            split=splits.get(opened.key(i), "train"),
            left_out=left_out.get(opened.key(i), frozenset()),
        )
        for i in range(len(opened))
    ]
    made = Contents(
        name="made",
        key="0123",
        card="# made\n",
        categories=tuple(categories_of(opened.vocabulary, own_ids=False)),
        splits=tuple(dict.fromkeys(["train", *splits.values()])),
        samples=opened,
        facts=LabelFacts(np.arange(count) + 1, np.full(count, 0.25), np.linspace(0.5, 0.9, count)),
        images=images,
    )
    return replace(made, **changes)


SIZE = (64, 90)


def made_contents(folder: Path) -> Contents:
    """Images with one object: with a hole, in several pieces, of a pixel, of everything; a category
    each, with names that are hard; a split `val`; an image whose label was left out."""
    masks = [
        ring(SIZE),
        ring(SIZE, pieces=4),
        box(SIZE, 7, 9, 8, 10),
        box(SIZE, 0, 0, *SIZE),
        box(SIZE, 5, 0, 6, SIZE[1]),
        np.random.default_rng(0).random(SIZE) > 0.4,
        box(SIZE, 3, 3, 20, 20),
    ]
    samples = [stored_sample(n, n + 1, SIZE, mask) for n, mask in enumerate(masks)]
    empty = stored_sample(7, 1, SIZE, masks[0])
    return contents_of(
        folder,
        [*samples, empty],
        splits={"00000001": "val", "00000003": "val"},
        left_out={"00000007": frozenset({0})},
    )


def several_contents(folder: Path) -> Contents:
    """Images with several objects that overlap, one of them to be ignored, one left out."""
    size = SIZE
    samples = [
        several_sample(
            0, [(1, box(size, 5, 5, 30, 40)), (2, ring(size)), (1, box(size, 20, 30, 60, 80))]
        ),
        several_sample(1, [(3, ring(size)), (0, box(size, 0, 0, 10, 10))]),
        several_sample(2, [(2, box(size, 1, 1, 9, 9)), (5, box(size, 40, 40, 60, 60))]),
    ]
    return contents_of(
        folder, samples, splits={"00000001": "val"}, left_out={"00000002": frozenset({1})}
    )


def iou(first: Mask, second: Mask) -> float:
    """Of two masks, bool [h, w]; 1 where both are empty."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0
