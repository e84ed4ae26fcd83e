"""What estimates are worth where the truth is known: of damaged labels held out, of made worlds.

Dimensions:
    n  labels
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

_BINS = 10
_HALF = 0.5


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Figures of estimates; None where they can't be told, such as an area with one class.

    Attributes:
        labels: n.
        spearman: rank correlation of quality and true IoU, -1..1.
        wrong_category_auc: area under the ROC of the category's probability as a sign of a wrong
            category, 0..1.
        poor_mask_auc: of quality as a sign of an IoU below 0.5, 0..1.
        calibration_error: mean difference of quality and true IoU over ten bins of equal size
            (expected calibration error), 0..1.
        gain: what dropping the fifth of lowest quality adds to the mean true IoU, over what
            dropping the truly worst fifth adds.
        bins: (mean quality, mean true IoU, labels) of each bin, from low to high.
    """

    labels: int
    spearman: float | None
    wrong_category_auc: float | None
    poor_mask_auc: float | None
    calibration_error: float | None
    gain: float | None
    bins: tuple[tuple[float, float, int], ...]


def reliability(
    quality: Floats,
    category_probability: Floats,
    true_iou: Floats,
    right: npt.NDArray[np.bool_],
) -> Reliability:
    """Compare estimates with the truth.

    Args:
        quality, category_probability: [n] in 0..1.
        true_iou: [n] in 0..1; 0 where the category is wrong.
        right: [n], the category is right.
    """
    from scipy.stats import spearmanr

    bins = _bins(quality, true_iou)
    varied = len(quality) > 1 and np.ptp(quality) > 0 and np.ptp(true_iou) > 0
    return Reliability(
        labels=len(quality),
        spearman=float(spearmanr(quality, true_iou).statistic) if varied else None,
        wrong_category_auc=_area(right, category_probability),
        poor_mask_auc=_area(true_iou >= _HALF, quality),
        calibration_error=(
            sum(number * abs(mean - true) for mean, true, number in bins) / len(quality)
            if len(quality)
            else None
        ),
        gain=_gain(quality, true_iou),
        bins=bins,
    )


def _area(good: npt.NDArray[np.bool_], score: Floats) -> float | None:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(good, score)) if 0 < np.count_nonzero(good) < len(good) else None


def _bins(quality: Floats, true_iou: Floats) -> tuple[tuple[float, float, int], ...]:
    order = np.argsort(quality, kind="stable")
    return tuple(
        (float(quality[chosen].mean()), float(true_iou[chosen].mean()), len(chosen))
        for chosen in np.array_split(order, _BINS)
        if len(chosen)
    )


def _gain(quality: Floats, true_iou: Floats) -> float | None:
    dropped = len(quality) // 5
    best = np.sort(true_iou)[dropped:].mean() - true_iou.mean() if len(quality) else 0.0
    if best <= 0:
        return None
    kept = true_iou[np.argsort(quality, kind="stable")[dropped:]]
    return float((kept.mean() - true_iou.mean()) / best)
