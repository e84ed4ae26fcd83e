"""Scores of retrieval and pseudo-masks against the made world's ground truth.

Dimensions:
    h, w  rows, columns of an image
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from storage.artifacts.store import Artifact
from storage.images.records import read_parquet
from storage.shards.samples import ShardSamples
from tasks.saliency_training.scores import iou
from tasks.stage.layout import RETRIEVAL, RETRIEVED_IMAGES

Mask = NDArray[np.bool_]
Truth = Mapping[str, Sequence[tuple[str, Mask]]]
"""(kind, visible mask bool [h, w]) of each object, by file name."""


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """An image that was retrieved for a kind.

    Attributes:
        kind: the name.
        rank: from 1.
        image_id: of the image.
        file: its name in the corpus.
        right: it shows the kind.
    """

    kind: str
    rank: int
    image_id: str
    file: str
    right: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredMask:
    """A pseudo-mask and its ground truth.

    Attributes:
        kind: its label.
        image_id: of the image.
        rank: of the image among those retrieved for the kind.
        jpeg: the image.
        mask, truth: bool [h, w]; the truth is the union of all objects in the image, which a
            saliency model is to predict.
        iou: of the two, 0..1.
        right: the image shows the kind.
    """

    kind: str
    image_id: str
    rank: int
    jpeg: bytes
    mask: Mask
    truth: Mask
    iou: float
    right: bool


def retrieved_images(retrieval: Artifact, truth: Truth) -> list[Retrieved]:
    """Everything that was retrieved for the kinds of the world, by kind and rank.

    Categories that are not kinds of the world are left out, as they have no ground truth.
    """
    with retrieval.open(RETRIEVED_IMAGES) as file:
        images = read_parquet(file, ["image_id", "uri"]).to_pylist()
    files = {row["image_id"]: PurePosixPath(row["uri"]).name for row in images}
    with retrieval.open(RETRIEVAL) as file:
        rows = read_parquet(file, ["category", "rank", "image_id"]).to_pylist()
    known = {kind for objects in truth.values() for kind, _ in objects}
    found = [
        Retrieved(
            kind=row["category"],
            rank=row["rank"],
            image_id=row["image_id"],
            file=files[row["image_id"]],
            right=row["category"] in {kind for kind, _ in truth[files[row["image_id"]]]},
        )
        for row in rows
        if row["category"] in known
    ]
    return sorted(found, key=lambda one: (one.kind, one.rank))


def precisions(retrieved: Sequence[Retrieved]) -> dict[str, float]:
    """The share of right images, 0..1, for each kind."""
    shares: dict[str, list[bool]] = {}
    for one in retrieved:
        shares.setdefault(one.kind, []).append(one.right)
    return {kind: float(np.mean(rights)) for kind, rights in shares.items()}


def precision_by_chance(truth: Truth, kinds: Iterable[str]) -> float:
    """The share of all images that show a kind, 0..1, mean over the kinds: the precision of images
    chosen at random."""
    shown = [{kind for kind, _ in objects} for objects in truth.values()]
    return float(np.mean([[kind in one for one in shown] for kind in kinds]))


def scored_masks(
    samples: ShardSamples, retrieved: Sequence[Retrieved], truth: Truth
) -> list[ScoredMask]:
    """Every pseudo-mask of the data set whose image has any object, with its score.

    Raises:
        ArtifactError: a shard is damaged.
    """
    images = {(one.kind, one.image_id): one for one in retrieved}
    scored = []
    for i in range(len(samples)):
        kind = samples.categories[int(samples.labels[i])]
        image = images.get((kind, samples.key(i)))
        if image is None or not truth[image.file]:
            continue
        stored = samples.read(i)
        mask = samples.decode_object(i, stored)
        expected = np.logical_or.reduce([one for _, one in truth[image.file]])
        scored.append(
            ScoredMask(
                kind=kind,
                image_id=image.image_id,
                rank=image.rank,
                jpeg=stored.jpeg,
                mask=mask,
                truth=expected,
                iou=iou(mask, expected),
                right=image.right,
            )
        )
    return sorted(scored, key=lambda one: (one.kind, one.rank))
