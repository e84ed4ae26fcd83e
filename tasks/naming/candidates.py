"""Names for the candidates of one image, and the choice among those that overlap.

Dimensions:
    n     candidates, which may overlap
    k     categories of the vocabulary
    d     width of CLIP's joint embedding
    h, w  image rows, columns
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from tasks.categories.logits import Logits
from tasks.quality.region_measuring import VECTORS

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

_WEIGHTS: Final = {"wide": 2 / 3, "inside": 1 / 3}
"""Of a candidate's vectors. The tight view takes a part of an object for the object more often than
the wide one; the mean inside of it tells apart what touches."""
_EXPECTED: Final = 3.0
"""How many times as likely a category is in an image that was retrieved for it."""
_INSIDE: Final = 0.6  # share of the smaller of two candidates from which they exclude each other


def name_probabilities(
    vectors: Floats, texts: Floats, logits: Logits, expected: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """How likely each candidate shows each category, by its wide view and its pixels.

    Args:
        vectors: [n, 6, d] of the candidates, see `region_measuring.VECTORS`.
        texts: [k, d], unit rows.
        logits: of the CLIP.
        expected: [k], the categories that the image was retrieved for.

    Returns:
        [n, k] in 0..1; with a CLIP a row sums to 1.
    """
    weighted = [
        share * vectors[:, VECTORS.index(view)].astype(np.float64)
        for view, share in _WEIGHTS.items()
    ]
    cosines = np.sum(weighted, axis=0) @ texts.T.astype(np.float64)
    favour = np.where(expected, np.log(_EXPECTED), 0.0)
    return logits.probabilities(logits.of_cosines(cosines) + favour)


def chosen(masks: Sequence[Mask], confidence: Floats) -> list[int]:
    """Places of the candidates that no better one excludes, the best first.

    Two exclude each other if they share most of the smaller one: a whole and its parts, so that
    whichever has the clearer name stays.

    Args:
        masks: bool [h, w], each with a pixel.
        confidence: [n].
    """
    kept: list[int] = []
    for place in np.argsort(-confidence, kind="stable").tolist():
        if not any(_exclude(masks[place], masks[other]) for other in kept):
            kept.append(place)
    return kept


def _exclude(a: Mask, b: Mask) -> bool:
    smaller = min(np.count_nonzero(a), np.count_nonzero(b))
    return bool(np.count_nonzero(a & b) >= _INSIDE * smaller)
