"""Metrics of label maps and masks: pixel accuracies and intersections over union (IoU).

The scores of semantic segmentation (Long et al. 2015) from one confusion matrix over all pixels,
with the numbers of the ZUTIS reference (`utils/running_score.py`).

Dimensions:
    k     classes
    h, w  rows, columns
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
ArrayLike = Tensor | npt.NDArray[np.generic]


@dataclass(frozen=True, kw_only=True, eq=False)
class SemanticScores:
    """Scores in 0..1; NaN where undefined.

    Attributes:
        pixel_accuracy: share of the pixels that are correct.
        mean_accuracy: the same per class of the ground truth, averaged over its classes.
        frequency_weighted_iou: IoU weighted by the class's share of the ground truth ("FreqW Acc"
            in the reference).
        mean_iou: over the classes that occur in ground truth or predictions.
        class_iou: float64 [k]; 0 for a class that is predicted but never in the ground truth,
            NaN for one that is in neither.
    """

    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    mean_iou: float
    class_iou: FloatArray


class ConfusionMatrix:
    """Counts pixels by label and prediction, image after image.

    Args:
        num_classes: k.
        ignore_index: label of ignored pixels; not a class.

    Attributes:
        matrix: int64 [k, k]; row: ground truth, column: prediction.

    Raises:
        ValueError: no classes, or `ignore_index` is one of them.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        if 0 <= ignore_index < num_classes:
            raise ValueError(f"ignore_index {ignore_index} is one of the {num_classes} classes")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.matrix: IntArray = np.zeros((num_classes, num_classes), dtype=np.int64)

    def update(self, labels: ArrayLike, predictions: ArrayLike) -> None:
        """Count an image, a batch, or any other array; an empty one is allowed.

        Labels that are neither classes nor `ignore_index` are an error. The reference drops their
        pixels, which makes a wrong mapping of labels look like a good score. Predictions out of
        range are an error too where the label counts; the reference counts most of them as
        another class of another label.

        Args:
            labels: integers of any shape: NumPy, or a tensor on any device.
            predictions: integers of the same shape, likewise. Values at ignored pixels don't
                matter.

        Raises:
            ValueError: types or shapes don't fit, or a value is out of range; nothing is counted
                then.
        """
        truth, predicted = _as_int64("labels", labels), _as_int64("predictions", predictions)
        if truth.shape != predicted.shape:
            raise ValueError(
                f"labels {list(truth.shape)} and predictions {list(predicted.shape)} "
                "differ in shape"
            )
        predicted = predicted.to(truth.device)
        counts = truth != self.ignore_index
        truth, predicted = truth[counts], predicted[counts]
        self._check_range("labels", truth)
        self._check_range("predictions", predicted)
        cells = torch.bincount(truth * self.num_classes + predicted, minlength=self.num_classes**2)
        self.matrix += cells.view(self.num_classes, self.num_classes).cpu().numpy()

    def merge(self, other: ConfusionMatrix) -> None:
        """Add another matrix's counts, of other images.

        Raises:
            ValueError: it has other classes or ignores another label.
        """
        for name in ("num_classes", "ignore_index"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(f"can't merge {name} {theirs} into {mine}")
        self.matrix += other.matrix

    def scores(self) -> SemanticScores:
        """Scores of all counts so far; all NaN if there are none."""
        right = np.diag(self.matrix)
        labelled, predicted = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        total = labelled.sum()
        class_iou = _ratio(right, labelled + predicted - right)
        occurs = labelled > 0
        return SemanticScores(
            pixel_accuracy=float(_ratio(right.sum(), total)),
            mean_accuracy=_mean_of_defined(_ratio(right, labelled)),
            frequency_weighted_iou=float(_ratio(labelled[occurs] @ class_iou[occurs], total)),
            mean_iou=_mean_of_defined(class_iou),
            class_iou=class_iou,
        )

    def _check_range(self, name: str, values: Tensor) -> None:
        if values.numel() == 0:
            return
        lowest, highest = (int(value) for value in torch.stack(values.aminmax()).tolist())
        if lowest < 0 or highest >= self.num_classes:
            raise ValueError(
                f"{name} must be in 0..{self.num_classes - 1} where they count, "
                f"got {lowest if lowest < 0 else highest}"
            )


def mask_iou(a: ArrayLike, b: ArrayLike) -> Tensor:
    """Intersection over union of masks, pair by pair.

    Args:
        a: bool [..., h, w]: NumPy, or a tensor on any device.
        b: bool of the same shape.

    Returns:
        float64 [...] on the device of `a`, in 0..1. Two empty masks agree: 1 (the reference's
        `utils/iou.py` gives them 0).

    Raises:
        ValueError: the masks are not bool, not of one shape, or have fewer than two dimensions.
    """
    first, second = _as_tensor(a), _as_tensor(b)
    for name, masks in (("a", first), ("b", second)):
        if masks.dtype != torch.bool or masks.ndim < 2:
            raise ValueError(
                f"{name} must be bool [..., h, w], got {masks.dtype} {list(masks.shape)}"
            )
    if first.shape != second.shape:
        raise ValueError(f"a {list(first.shape)} and b {list(second.shape)} differ in shape")
    second = second.to(first.device)
    intersection = (first & second).sum(dim=(-2, -1))
    union = (first | second).sum(dim=(-2, -1))
    return torch.where(union > 0, intersection.double() / union.clamp(min=1), 1.0)


def _as_int64(name: str, values: ArrayLike) -> Tensor:
    if isinstance(values, np.ndarray):
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} must be integers, got {values.dtype}")
        values = torch.from_numpy(values.astype(np.int64))
    if values.dtype == torch.bool or values.is_floating_point() or values.is_complex():
        raise ValueError(f"{name} must be integers, got {values.dtype}")
    return values.to(torch.int64)


def _as_tensor(values: ArrayLike) -> Tensor:
    # Copied, since torch takes no flipped arrays and warns of read-only ones.
    return torch.from_numpy(np.array(values)) if isinstance(values, np.ndarray) else values


def _ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> FloatArray:
    """NaN where the denominator is 0."""
    ratio = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=ratio, where=np.greater(denominator, 0))
    return ratio


def _mean_of_defined(values: FloatArray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan
