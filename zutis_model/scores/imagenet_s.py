"""ImageNet-S's own scores (Gao et al. 2022), from each image's confusion matrix.

The rules are those of github.com/LUSSeg/ImageNet-S (`evaluation/evaluator.py`, `metric.py`). The
ZUTIS reference doesn't follow them; it scores ImageNet-S as any other set.

Dimensions:
    k     categories, without the background
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Upper ends of S, MS and ML in percent of the image's pixels; L is above.
_SIZES = (5, 25, 50)
_BETA_SQUARED = 0.3


@dataclass(frozen=True, kw_only=True)
class ImageNetSScores:
    """Scores in 0..1; NaN where undefined.

    Attributes:
        mean_iou: over all k + 1 classes; one that is neither annotated nor predicted counts as 0.
        image_accuracy: share of the images whose most frequent predicted category is annotated
            in them.
        f_measure: of foreground against background, beta squared 0.3, mean over the images.
        mean_iou_s, mean_iou_ms, mean_iou_ml, mean_iou_l: of objects that cover at most 5, 25, 50
            and 100 percent of their image, among the pixels of such objects and the background of
            their images; over the classes that occur there.
    """

    mean_iou: float
    image_accuracy: float
    f_measure: float
    mean_iou_s: float
    mean_iou_ms: float
    mean_iou_ml: float
    mean_iou_l: float


class ImageNetSTally:
    """Accumulates the counts for the scores, image after image.

    Args:
        num_categories: k.
    """

    def __init__(self, num_categories: int) -> None:
        classes = num_categories + 1
        self._all = _Areas(classes)
        self._by_size = [_Areas(classes) for _ in range(len(_SIZES) + 1)]
        self._accurate = 0
        self._f_measures: list[float] = []

    def add(self, matrix: IntArray) -> None:
        """Count an image.

        Args:
            matrix: int64 [k + 1, k + 1] of its counted pixels; row: ground truth, column:
                prediction, the background first.
        """
        labelled, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
        self._all.add(matrix, slice(None))
        for areas, rows in zip(self._by_size, _rows_by_size(labelled), strict=True):
            # The background of an image without objects of that size doesn't count there.
            if rows.size:
                areas.add(matrix, np.concatenate([[0], rows]))
        self._accurate += _names_an_object(labelled, predicted)
        self._f_measures.append(_f_measure(matrix))

    def scores(self) -> ImageNetSScores:
        """Scores of all images so far; all NaN if there are none."""
        images = len(self._f_measures)
        by_size = [_mean(areas.iou()[areas.labelled > 0]) for areas in self._by_size]
        return ImageNetSScores(
            mean_iou=_mean(self._all.iou()) if images else math.nan,
            image_accuracy=self._accurate / images if images else math.nan,
            f_measure=_mean(np.array(self._f_measures)),
            mean_iou_s=by_size[0],
            mean_iou_ms=by_size[1],
            mean_iou_ml=by_size[2],
            mean_iou_l=by_size[3],
        )


class _Areas:
    """Pixels by class over many images: of the ground truth, of predictions, and of both."""

    def __init__(self, classes: int) -> None:
        self.labelled = np.zeros(classes, dtype=np.int64)
        self._predicted = np.zeros(classes, dtype=np.int64)
        self._right = np.zeros(classes, dtype=np.int64)

    def add(self, matrix: IntArray, rows: IntArray | slice) -> None:
        """Count the pixels with a ground-truth label among these rows."""
        self.labelled[rows] += matrix[rows].sum(axis=1)
        self._predicted += matrix[rows].sum(axis=0)
        self._right[rows] += matrix.diagonal()[rows]

    def iou(self) -> FloatArray:
        union = self.labelled + self._predicted - self._right
        iou: FloatArray = self._right / np.maximum(union, 1)
        return iou


def _rows_by_size(labelled: IntArray) -> list[IntArray]:
    """The categories of an image in each size, of its pixels by class."""
    categories = 1 + np.flatnonzero(labelled[1:])
    # The share is rounded up to whole percents first, as the published rules do; in integers.
    percents = -(-100 * labelled[categories] // max(1, int(labelled.sum())))
    sizes = np.searchsorted(_SIZES, percents)
    return [categories[sizes == size] for size in range(len(_SIZES) + 1)]


def _names_an_object(labelled: IntArray, predicted: IntArray) -> bool:
    """Whether the most frequent predicted category is in the ground truth."""
    best = 1 + int(predicted[1:].argmax())
    return bool(predicted[best] > 0 and labelled[best] > 0)


def _f_measure(matrix: IntArray) -> float:
    """0 where ground truth and prediction share no foreground pixel."""
    both = int(matrix[1:, 1:].sum())
    if both == 0:
        return 0.0
    recall, precision = both / int(matrix[1:].sum()), both / int(matrix[:, 1:].sum())
    return (1 + _BETA_SQUARED) * precision * recall / (_BETA_SQUARED * precision + recall)


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if values.size else math.nan
