"""Scenes of the demonstration: image, ground truth, the baseline's and ZUTIS's predictions.

Dimensions:
    h, w  rows, columns of a scene
    n     objects shown of it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from flows.demo.page import Scene, ScenePanel
from flows.pipelines.training import Evaluated
from flows.settings.evaluation import EvaluationSettings, opened_set
from storage.artifacts.store import Artifact
from storage.evaluation_sets.opening import EvaluationImage, EvaluationSet
from tasks.evaluation.evaluate import INSTANCES
from tasks.packing.mask_sheet import as_jpeg
from tasks.prediction.overlays import draw_named_masks

_SHOWN: Final = 6
_FOUND: Final = 0.5
"""IoU from which an object counts as found, as in AP50."""
_FONT: Final = 20


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object of a scene: from the ground truth, or predicted.

    Attributes:
        name: its kind.
        label: the kind's label, from 1.
        rle: COCO's compressed run lengths.
        score: of a prediction, 0..1; None for ground truth.
    """

    name: str
    label: int
    rle: Mapping[str, Any]
    score: float | None = None

    @property
    def text(self) -> str:
        return self.name if self.score is None else f"{self.name} {self.score:.2f}"

    def mask(self) -> NDArray[np.bool_]:
        """Bool [h, w]."""
        return cast("NDArray[np.bool_]", coco_mask.decode(dict(self.rle)).astype(np.bool_))


@dataclass(frozen=True, kw_only=True)
class _Looked:
    """A scene with its ground truth and both models' predictions, best first."""

    number: int
    image: EvaluationImage
    truth: list[Thing]
    baseline: list[Thing]
    model: list[Thing]


def side_by_side(evaluated: Evaluated, settings: EvaluationSettings) -> tuple[Scene, ...]:
    """Some of the scenes, from ZUTIS's best to its worst.

    Of each model, as many predictions are shown as there are true objects, those with the highest
    scores: scores are not comparable between the models.

    Raises:
        ZutisError: the scenes are missing.
    """
    assert evaluated.baseline is not None, "the demonstration asks for it"
    used = opened_set(settings)
    baseline, model = (_found(one, used) for one in (evaluated.baseline, evaluated.model))
    looked = [
        _looked(number, image, used, baseline, model)
        for number, image in enumerate(used.images, start=1)
    ]
    return tuple(_scene(one) for one in spread(looked))


def spread(looked: Sequence[_Looked], most: int = _SHOWN) -> list[_Looked]:
    """At most that many scenes, evenly from ZUTIS's best to its worst; the first of equal ones."""
    order = sorted(looked, key=lambda one: (-agreement(one.truth, one.model), one.number))
    places = np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int)
    return [order[place] for place in places]


def agreement(truth: Sequence[Thing], found: Sequence[Thing]) -> float:
    """Mean over the true objects of the IoU with the best prediction of their kind, 0..1; 1 without
    objects."""
    best = _ious(truth, found).max(axis=1, initial=0.0)
    return float(best.mean()) if len(truth) else 1.0


def number_found(truth: Sequence[Thing], found: Sequence[Thing]) -> int:
    """Number of true objects that are found: each prediction, best first, matches at most one true
    object of its kind, with an IoU of 0.5 or more."""
    ious = _ious(truth, found)
    number = 0
    for column in range(len(found)):
        best = int(ious[:, column].argmax()) if len(truth) else 0
        if len(truth) and ious[best, column] >= _FOUND:
            number += 1
            ious[best] = 0.0
    return number


def _ious(truth: Sequence[Thing], found: Sequence[Thing]) -> NDArray[np.float64]:
    """IoU, float64 [true, found]: 0 for objects of different kinds."""
    if not truth or not found:
        return np.zeros((len(truth), len(found)))
    rles = [[dict(one.rle) for one in things] for things in (truth, found)]
    ious = np.asarray(coco_mask.iou(*rles, [0] * len(found)), dtype=np.float64)
    alike = np.equal.outer([one.label for one in truth], [one.label for one in found])
    return np.where(alike, ious, 0.0)


def _found(evaluation: Artifact, used: EvaluationSet) -> dict[int, list[Thing]]:
    """A model's predictions in each image, best first."""
    labels = {used.own_id(label): label for label in range(1, len(used.categories) + 1)}
    by_image: dict[int, list[Thing]] = {}
    for row in sorted(evaluation.read_json(INSTANCES), key=lambda row: -row["score"]):
        label = labels[row["category_id"]]
        by_image.setdefault(row["image_id"], []).append(
            Thing(
                name=used.categories[label - 1],
                label=label,
                rle=row["segmentation"],
                score=row["score"],
            )
        )
    return by_image


def _looked(
    number: int,
    image: EvaluationImage,
    used: EvaluationSet,
    baseline: Mapping[int, list[Thing]],
    model: Mapping[int, list[Thing]],
) -> _Looked:
    truth = [
        Thing(name=used.categories[row.category - 1], label=row.category, rle=row.rle)
        for row in image.instances() or ()
        if not row.is_crowd
    ]
    shown = (found.get(image.image_id, [])[: len(truth)] for found in (baseline, model))
    theirs, ours = shown
    return _Looked(number=number, image=image, truth=truth, baseline=theirs, model=ours)


def _scene(one: _Looked) -> Scene:
    pixels = one.image.read()
    of = len(one.truth)
    theirs, ours = (number_found(one.truth, found) for found in (one.baseline, one.model))
    return Scene(
        title=f"Scene {one.number}: MaskCLIP finds {theirs} of {of} things, ZUTIS {ours}",
        panels=(
            ScenePanel(label="image", image=_plain(pixels), alt=f"scene {one.number}"),
            *(
                _panel(label, pixels, things)
                for label, things in (
                    ("truth", one.truth),
                    ("MaskCLIP (baseline)", one.baseline),
                    ("ZUTIS", one.model),
                )
            ),
        ),
    )


def _panel(label: str, pixels: NDArray[np.uint8], things: Sequence[Thing]) -> ScenePanel:
    masks = [one.mask() for one in things]
    drawn = draw_named_masks(
        pixels,
        np.stack(masks) if masks else np.zeros((0, *pixels.shape[:2]), dtype=np.bool_),
        [one.label for one in things],
        [one.text for one in things],
        font_size=_FONT,
    )
    seen = ", ".join(one.text for one in things) or "nothing"
    return ScenePanel(label=label, image=as_jpeg(drawn), alt=f"{label}, outlined: {seen}")


def _plain(pixels: NDArray[np.uint8]) -> bytes:
    """The image at the size of those with outlines."""
    return as_jpeg(
        draw_named_masks(pixels, np.zeros((0, *pixels.shape[:2]), dtype=np.bool_), [], [])
    )
