"""The estimator of a label's quality, learned from labels that were damaged on purpose.

Two monotone gradient-boosted models: one tells how likely it is that the region shows the category,
the other the IoU of the mask where it does. Signals that speak for a label can only raise them,
so that what was learned on damage carries over to errors that look different. Both are calibrated
by isotonic regression on predictions for images that they had not seen. A label's quality is the
product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sklearn.isotonic import IsotonicRegression

Floats = npt.NDArray[np.floating]

# Signals and whether they can only raise (1), only lower (-1), or do either (0).
# What is said of the whole image is left out: retrieval has chosen by it, so that it tells damaged
# labels with a name at random from right ones, and real labels not at all. Of signals that say
# nearly the same, one is enough: with all of them, on a tuning world, the rank correlation of
# quality with the truth was 0.55, with these 0.65.
FEATURES: Final[dict[str, int]] = {
    "inside_score": 1,
    "inside_probability": 1,
    "rest_contrast": 1,
    "wide_score": 1,
    "tight_score": 1,
    "largest_piece": 1,
    "solidity": 1,
    "stability": 1,
    "refiner_agreement": 1,
}

LEAST_EXAMPLES: Final = 60
"""Images with damaged labels; with fewer the fixed formula is used."""

_FOLDS = 5
_BOOSTING: Final[dict[str, Any]] = {
    "max_iter": 150,
    "learning_rate": 0.06,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 20,
    "l2_regularization": 1.0,
    "early_stopping": False,
}


@dataclass(frozen=True, eq=False)
class Examples:
    """Damaged labels with what is known of them.

    Attributes:
        features: [n, f], see `feature_matrix`.
        right: bool [n], the region's image shows the category.
        iou: [n], of the mask with the category's object; 0 where it is not right.
        weight: [n], how much each counts.
        groups: int [n], the image that an example was made of.
    """

    features: Floats
    right: npt.NDArray[np.bool_]
    iou: Floats
    weight: Floats
    groups: npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Estimates:
    """For each label, in 0..1: the probability that its category is right, the IoU of its mask
    where it is, and their product."""

    category_probability: npt.NDArray[np.float32]
    estimated_iou: npt.NDArray[np.float32]

    @property
    def quality(self) -> npt.NDArray[np.float32]:
        return self.category_probability * self.estimated_iou


def feature_matrix(signals: Mapping[str, Floats]) -> Floats:
    """The signals that the models see, float32 [n, f], in the order of `FEATURES`."""
    return np.stack([signals[name] for name in FEATURES], axis=1).astype(np.float32)


class Estimator:
    """Fitted models. The same examples and seed give the same estimates.

    Args:
        examples: of at least `LEAST_EXAMPLES` images, some right and some wrong.
        seed: of the models.

    Attributes:
        held_out: calibrated estimates of the examples themselves, each by models and a calibration
            that had not seen its image: what the estimator is worth.
    """

    def __init__(self, examples: Examples, seed: int) -> None:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # sums in one order
            self._right = _Calibrated("right", examples.features, examples.right * 1.0,
                                      examples.weight, examples.groups, seed)  # fmt: skip
            shown = examples.right
            self._iou = _Calibrated("iou", examples.features[shown], examples.iou[shown],
                                    examples.weight[shown], examples.groups[shown],
                                    seed)  # fmt: skip
            ious = self._iou.predict(examples.features)
            ious[shown] = self._iou.held_out
        self.held_out = Estimates(_share(self._right.held_out), _share(ious))

    def __call__(self, features: Floats) -> Estimates:
        """Estimates for labels, of their `feature_matrix`."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            return Estimates(
                _share(self._right.predict(features)), _share(self._iou.predict(features))
            )


class _Calibrated:
    """A boosted model and its calibration."""

    def __init__(
        self,
        kind: str,
        features: Floats,
        target: Floats,
        weight: Floats,
        groups: npt.NDArray[np.integer],
        seed: int,
    ) -> None:
        self._kind, self._seed = kind, seed
        raw = np.empty(len(target))
        folds = groups % _FOLDS
        for fold in range(_FOLDS):
            there = folds == fold
            model = self._fitted(features[~there], target[~there], weight[~there])
            raw[there] = self._raw(model, features[there])
        self._model = self._fitted(features, target, weight)
        self._calibration = _isotonic(raw, target, weight)
        self.held_out = np.empty(len(target))
        for fold in range(_FOLDS):
            there = folds == fold
            calibration = _isotonic(raw[~there], target[~there], weight[~there])
            self.held_out[there] = calibration.predict(raw[there])

    def predict(self, features: Floats) -> Floats:
        calibrated: Floats = self._calibration.predict(self._raw(self._model, features))
        return calibrated

    def _fitted(self, features: Floats, target: Floats, weight: Floats) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        settings = {
            **_BOOSTING,
            "monotonic_cst": list(FEATURES.values()),
            "random_state": self._seed,
        }
        if self._kind == "right":
            return HistGradientBoostingClassifier(**settings).fit(features, target > 0, weight)
        return HistGradientBoostingRegressor(**settings).fit(features, target, weight)

    def _raw(self, model: Any, features: Floats) -> Floats:
        raw: Floats = (
            model.predict_proba(features)[:, 1]
            if self._kind == "right"
            else model.predict(features)
        )
        return raw


def _isotonic(raw: Floats, target: Floats, weight: Floats) -> IsotonicRegression:
    from sklearn.isotonic import IsotonicRegression

    return IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, target, weight)


def _share(values: Floats) -> npt.NDArray[np.float32]:
    return np.clip(values, 0, 1).astype(np.float32)
