"""Signals of labels: what the measurements of a region say of a category.

Dimensions:
    n  labels
    k  categories of the vocabulary
    d  width of CLIP's joint embedding
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from tasks.categories.logits import Logits
from tasks.quality.region_measuring import VECTORS

Floats = npt.NDArray[np.float32]

VIEWS: Final = ("tight", "wide", "inside", "whole")
"""The vectors that are compared with all categories."""

TEXT_SIGNALS: Final = (
    *(f"{view}_{signal}" for view in VIEWS for signal in ("score", "probability", "lead")),
    "ring_contrast",
    "rest_contrast",
    "ring_score",
    "rest_score",
)
"""Signals that depend on the category. `score` is the cosine with the category's text, `lead` its
distance to the best other category's, `probability` that of the category over the vocabulary;
`contrast` is how much better the category fits inside the mask than around it, or elsewhere."""

REGION_SIGNALS: Final = (
    "stability",
    "refiner_agreement",
    "area",
    "border_contact",
    "components",
    "largest_piece",
    "solidity",
    "extent",
    "elongation",
    "holes",
)
"""Signals of the mask alone: columns of `embed_regions`."""

CORPUS_SIGNALS: Final = ("objectness", "neighbours")
"""Signals that a damaged label doesn't have: the score that its mask was proposed with, and the
share of similar images with a label of the same category (`tasks.quality.neighbours`)."""


def text_signals(
    vectors: Floats,
    texts: Floats,
    own: npt.NDArray[np.integer],
    logits: Logits,
    hidden: npt.NDArray[np.bool_] | None = None,
) -> dict[str, Floats]:
    """Signals of labels that depend on their category.

    Args:
        vectors: [n, 6, d] of their regions, see `region_measuring.VECTORS`.
        texts: [k, d], unit rows, k at least 1.
        own: [n] index of each label's category.
        logits: of the CLIP.
        hidden: [n, k], categories that are taken out of the vocabulary for a label; never its own.

    Returns:
        By name (`TEXT_SIGNALS`), float32 [n]. With one category, leads are 1.
    """
    place = np.arange(len(own))
    found: dict[str, npt.NDArray[np.floating]] = {}
    scores: dict[str, npt.NDArray[np.floating]] = {}
    for number, name in enumerate(VECTORS):
        if name not in VIEWS:
            scores[name] = np.einsum("nd,nd->n", vectors[:, number], texts[own])
            continue
        cosines = vectors[:, number].astype(np.float64) @ texts.T.astype(np.float64)
        if hidden is not None:
            cosines = np.where(hidden, -1.0, cosines)
        rivals = cosines.copy()
        rivals[place, own] = -1.0
        scores[name] = cosines[place, own]
        likely = logits.probabilities(logits.of_cosines(cosines))
        found[f"{name}_score"] = scores[name]
        found[f"{name}_probability"] = likely[place, own]
        found[f"{name}_lead"] = scores[name] - rivals.max(axis=1)
    found["ring_score"], found["rest_score"] = scores["ring"], scores["rest"]
    found["ring_contrast"] = scores["inside"] - scores["ring"]
    found["rest_contrast"] = scores["inside"] - scores["rest"]
    return {name: found[name].astype(np.float32) for name in TEXT_SIGNALS}


def plain_confidence(signals: Mapping[str, npt.NDArray[np.floating]]) -> Floats:
    """How far labels can be trusted by a fixed formula, 0..1: for choosing, and where there are too
    few labels to learn from.

    The geometric mean of what CLIP says of both views, of the mask's stability and of its
    compactness.
    """
    factors = np.stack([
        np.clip(signals["tight_probability"], 0, 1),
        np.clip(signals["wide_probability"], 0, 1),
        np.clip(signals["stability"], 0.05, 1),
        np.clip(signals["largest_piece"] * signals["solidity"], 0, 1),
    ])  # fmt: skip
    return np.asarray(np.prod(factors, axis=0) ** (1 / len(factors)), dtype=np.float32)
