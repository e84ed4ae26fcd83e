"""Caveats of an evaluation: sentences on its data that a reader of the scores must know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.sentences import listed
from storage.images.records import read_parquet
from tasks.stage.layout import SHARD_INDEX

_NAMED = 5  # images or categories in a sentence


@dataclass
class ScoredImages:
    """Facts about the scored images, in their order.

    Attributes:
        mean_ious: one per image.
        sha256s: of each file's bytes.
        frame_chosen: names of the images whose EXIF orientation makes it ambiguous whether they
            were annotated upright or as stored.
    """

    mean_ious: list[float] = field(default_factory=list)
    sha256s: list[str] = field(default_factory=list)
    frame_chosen: list[str] = field(default_factory=list)


def frame_caveats(seen: ScoredImages, *, upright: bool) -> list[str]:
    """Images whose size fits both frames, so that it is unknown which one was annotated."""
    if not seen.frame_chosen:
        return []
    read = "upright" if upright else "as stored, COCO's convention"
    return [
        f"EXIF turns {listed(seen.frame_chosen, _NAMED)}, and their annotations fit either way: "
        f"they are read {read}; if the data was annotated the other way, set "
        f"upright={str(not upright).lower()}."
    ]


def absent_categories(classes: Sequence[dict[str, Any]], name: str) -> list[str]:
    """Categories that never occur in the ground truth: the data lacks them, or the list is wrong.

    Args:
        classes: one row per class, the background first, as in `Scores.result`.
        name: of the data set.
    """
    categories = classes[1:]
    absent = [row["name"] for row in categories if not (row["pixels"] or row["objects"])]
    if not absent:
        return []
    if len(absent) == len(categories):
        return [
            f"The truth of {name} shows none of its {len(absent):,} categories, so that these "
            "scores say nothing: if its label maps have the objects as their highest value (255 "
            "with 8 bits), that value does not count; write them as 1, 2, … in the order of the "
            "names."
        ]
    return [
        f"{len(absent):,} of the {len(categories):,} categories are nowhere in the truth of {name} "
        f"({listed(absent, _NAMED)}): predicted all the same, such a category counts in the mean "
        "with an IoU of 0; if the data does show them, its names and its labels don't match."
    ]


def leakage(
    training: ArtifactRef | None, label: str, seen: ScoredImages, store: ArtifactStore
) -> list[str]:
    """Evaluation images that the model was trained on, or why that is unknown.

    Images are compared by the sha256 of their bytes.

    Args:
        training: the `train` artifact of the model; None for a checkpoint.
        label: of the model, for people.
    """
    if training is None:
        return [
            f"Whether {label} was trained on these images can't be known: a checkpoint says "
            "nothing of its data."
        ]
    trained = store.get(training)
    dataset = store.find(ArtifactRef("assemble_dataset", trained.manifest["inputs"]["dataset"]))
    if dataset is None:
        return [
            f"Whether {label} was trained on these images can't be known: its data set is no "
            "longer in the store."
        ]
    with dataset.open(SHARD_INDEX) as file:
        trained_on = set(read_parquet(file, columns=["key"])["key"].to_pylist())
    shared = sum(sha256 in trained_on for sha256 in seen.sha256s)
    if not shared:
        return []
    return [
        f"{shared:,} of the {len(seen.sha256s):,} images are in the training's data set, so that "
        "these scores are not of images that the model has never seen."
    ]
