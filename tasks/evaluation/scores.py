"""Scores of one model on one evaluation set, accumulated image by image.

Labels are compared at the annotations' size, over k categories and the background, as in the ZUTIS
reference (`trainer.py`, `evaluate`); masks are scored as in COCO. Undefined scores are None, JSON's
null.

Dimensions:
    h, w  rows, columns of an image as annotated
    k     categories that scores are given for, without the background
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from storage.errors.exceptions import ConfigError, CorpusError
from storage.vocabularies.vocabulary import BACKGROUND
from tasks.evaluation.images import LoadedImage

if TYPE_CHECKING:
    from tasks.prediction.segmenter import Segmentation
    from zutis_model.scores.coco import CocoEvaluation
    from zutis_model.scores.segmentation_metrics import ConfusionMatrix, SemanticScores

LabelMap = NDArray[np.int64]

SEEN, UNSEEN = "seen", "unseen"


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """The scoring scheme.

    Attributes:
        categories: names in the order of their labels, from 1; a single one if `collapsed`.
        collapsed: all categories of ground truth and predictions, which may differ, are scored as
            that one.
        seen: names of the categories that occurred in training; empty for no seen/unseen split.
        ignore: label of ignored pixels.
        imagenet_s: also score by ImageNet-S's own rules.
    """

    categories: tuple[str, ...]
    collapsed: bool = False
    seen: tuple[str, ...] = ()
    ignore: int = 65_535
    imagenet_s: bool = False

    @property
    def groups(self) -> dict[str, list[int]]:
        """Labels of the seen and of the unseen categories; empty without that split."""
        if not self.seen:
            return {}
        groups: dict[str, list[int]] = {SEEN: [], UNSEEN: []}
        for label, name in enumerate(self.categories, start=1):
            groups[SEEN if name in self.seen else UNSEEN].append(label)
        return groups


class Scores:
    """Accumulator of scores over the images of a set.

    Args:
        scheme: the scoring scheme.
    """

    def __init__(self, scheme: Scheme) -> None:
        from zutis_model.scores.imagenet_s import ImageNetSTally

        self.scheme = scheme
        self.predictions: list[dict[str, Any]] = []
        """In COCO's result format, without boxes: `COCO.loadRes` would take a box's area for the
        mask's."""
        self._pixels = self._empty_matrix()
        self._truths: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []
        self._labelled = 0
        self._imagenet_s = ImageNetSTally(len(scheme.categories)) if scheme.imagenet_s else None

    def add(self, image: LoadedImage, found: Segmentation) -> float:
        """Add an image.

        Returns:
            The image's own mean IoU over the classes that occur in it, the background included;
            without a label map, over painted objects. NaN if all pixels are ignored.

        Raises:
            CorpusError: the ground truth has a label that is no category.
            ConfigError: the prediction has one.
        """
        matrix = self._empty_matrix()
        truth, predicted = self.label_maps(image, found)
        self._check_labels(image, predicted, found)
        try:
            matrix.update(truth, predicted)
        except ValueError as error:
            raise CorpusError(
                f"The label map of {image.source.name} doesn't match the categories: {error}; give "
                "names for all its labels, or the set that it belongs to."
            ) from error
        if image.labels is not None:
            self._labelled += 1
            self._pixels.merge(matrix)
            if self._imagenet_s is not None:
                self._imagenet_s.add(matrix.matrix)
        if image.instances is not None:
            self._add_instances(image, found)
        return matrix.scores().mean_iou

    def label_maps(self, image: LoadedImage, found: Segmentation) -> tuple[LabelMap, LabelMap]:
        """Ground truth and prediction as they are compared: int64 [h, w] each.

        Without a label map, objects are painted: smaller ones over larger ones in the ground
        truth, higher scores over lower ones in the prediction. Crowds are then ignored.
        """
        if image.labels is not None:
            truth, predicted = image.labels.astype(np.int64), found.labels
        else:
            truth, predicted = self._painted_truth(image), _painted_prediction(image, found)
        assert truth.shape == predicted.shape, (truth.shape, predicted.shape)
        if not self.scheme.collapsed:
            return truth, predicted
        ignored = truth == self.scheme.ignore
        return np.where(ignored, truth, np.minimum(truth, 1)), np.minimum(predicted, 1)

    def result(self) -> dict[str, Any]:
        """All scores: `semantic` and `instance`, each None if the set has no such ground truth,
        and `classes`, a row for the background and each category."""
        evaluations = self._evaluate_instances()
        return {
            "semantic": self._semantic() if self._labelled else None,
            "instance": self._instance(evaluations) if evaluations else None,
            "classes": self._classes(evaluations),
        }

    def _empty_matrix(self) -> ConfusionMatrix:
        from zutis_model.scores.segmentation_metrics import ConfusionMatrix

        return ConfusionMatrix(len(self.scheme.categories) + 1, self.scheme.ignore)

    def _check_labels(self, image: LoadedImage, predicted: LabelMap, found: Segmentation) -> None:
        highest = int(predicted.max(initial=0))
        if not self.scheme.collapsed:
            highest = max([highest, *found.instances.category_ids.tolist()])
        if highest > len(self.scheme.categories):
            raise ConfigError(
                f"The model predicts category {highest} in {image.source.name}, but only "
                f"{len(self.scheme.categories)} are scored: give the model the set's categories."
            )

    def _painted_truth(self, image: LoadedImage) -> LabelMap:
        from pycocotools.mask import decode

        painted = np.zeros(image.pixels.shape[:2], dtype=np.int64)
        rows = sorted(image.instances or (), key=lambda row: (not row.is_crowd, -row.area))
        for row in rows:
            label = self.scheme.ignore if row.is_crowd else row.category
            painted[decode(row.rle).astype(bool)] = label
        return painted

    def _add_instances(self, image: LoadedImage, found: Segmentation) -> None:
        from zutis_model.zutis.instance_prediction import coco_predictions

        image_id = image.source.image_id
        self._images.append(
            {"id": image_id, "height": image.source.height, "width": image.source.width}
        )
        for row in image.instances or ():
            self._truths.append(
                {
                    "image_id": image_id,
                    "category_id": self._category(row.category),
                    "segmentation": dict(row.rle),
                    "area": row.area,
                    "iscrowd": int(row.is_crowd),
                }
            )
        for prediction in coco_predictions(found.instances, image_id):
            self.predictions.append(
                {
                    "image_id": image_id,
                    "category_id": self._category(prediction["category_id"]),
                    "segmentation": prediction["segmentation"],
                    "score": prediction["score"],
                }
            )

    def _category(self, category: int) -> int:
        return 1 if self.scheme.collapsed else category

    def _evaluate_instances(self) -> dict[str, CocoEvaluation]:
        """By category and class-agnostic; empty if the set has no instance ground truth."""
        from zutis_model.scores.coco import evaluate_instances

        if not self._images:
            return {}
        k = len(self.scheme.categories)
        return {
            name: evaluate_instances(
                self._images, self._truths, self.predictions, k, class_agnostic=agnostic
            )
            for name, agnostic in (("by_category", False), ("class_agnostic", True))
        }

    def _semantic(self) -> dict[str, Any]:
        scores = self._pixels.scores()
        result: dict[str, Any] = {
            "images": self._labelled,
            "mean_iou_with_background": scores.mean_iou,
            "mean_iou_without_background": _mean_of_defined(scores.class_iou[1:]),
            "background_iou": scores.class_iou[0],
            "pixel_accuracy": scores.pixel_accuracy,
            "mean_accuracy": scores.mean_accuracy,
            "frequency_weighted_iou": scores.frequency_weighted_iou,
        }
        if self.scheme.groups:
            result |= self._semantic_groups(scores)
        if self._imagenet_s is not None:
            result["imagenet_s"] = asdict(self._imagenet_s.scores())
        return _without_nan(result)

    def _semantic_groups(self, scores: SemanticScores) -> dict[str, Any]:
        """Mean IoU over the seen and over the unseen categories, and the harmonic mean of both,
        the usual score of zero-shot segmentation."""
        means = {
            name: _mean_of_defined(scores.class_iou[labels])
            for name, labels in self.scheme.groups.items()
        }
        total = sum(means.values())
        product = 2 * means[SEEN] * means[UNSEEN]
        return {
            **{
                name: {"categories": len(self.scheme.groups[name]), "mean_iou": mean}
                for name, mean in means.items()
            },
            "harmonic_mean_iou": product / total if total > 0 else product,
        }

    def _instance(self, evaluations: dict[str, CocoEvaluation]) -> dict[str, Any]:
        scores: dict[str, Any] = {
            name: asdict(evaluation.scores()) for name, evaluation in evaluations.items()
        }
        for name, labels in self.scheme.groups.items():
            scores[name] = {
                "categories": len(labels),
                **asdict(evaluations["by_category"].scores(labels)),
            }
        return _without_nan(
            {
                "images": len(self._images),
                "objects": sum(not row["iscrowd"] for row in self._truths),
                "predictions": len(self.predictions),
                **scores,
            }
        )

    def _classes(self, evaluations: dict[str, CocoEvaluation]) -> list[dict[str, Any]]:
        matrix, scores = self._pixels.matrix, self._pixels.scores()
        labelled, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
        objects = Counter(row["category_id"] for row in self._truths if not row["iscrowd"])
        found = Counter(row["category_id"] for row in self.predictions)
        ap = evaluations["by_category"].class_ap() if evaluations else None
        group_of = {label: name for name, labels in self.scheme.groups.items() for label in labels}
        rows = []
        for label, name in enumerate((BACKGROUND, *self.scheme.categories)):
            right = int(matrix[label, label])
            rows.append(
                {
                    "category_id": label,
                    "name": name,
                    "group": group_of.get(label, ""),
                    "iou": float(scores.class_iou[label]),
                    "accuracy": right / labelled[label] if labelled[label] else math.nan,
                    "pixels": int(labelled[label]),
                    "predicted_pixels": int(predicted[label]),
                    "ap": math.nan if ap is None or label == 0 else float(ap[label - 1]),
                    "objects": objects[label],
                    "predicted_objects": found[label],
                }
            )
        return [_without_nan(row) for row in rows]


def _painted_prediction(image: LoadedImage, found: Segmentation) -> LabelMap:
    painted = np.zeros(image.pixels.shape[:2], dtype=np.int64)
    labels = found.instances.category_ids.tolist()
    for mask, label in zip(found.instances.each_mask(), labels, strict=True):
        painted[mask & (painted == 0)] = label  # instances come by falling score
    return painted


def _mean_of_defined(values: Sequence[float] | NDArray[np.float64]) -> float:
    defined = [float(value) for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def _without_nan(value: dict[str, Any]) -> dict[str, Any]:
    """Plain numbers, and None for NaN."""
    return {key: _plain(item) for key, item in value.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return _without_nan(value)
    if isinstance(value, float):  # NumPy's float64 is one
        return None if math.isnan(value) else float(value)
    return value
