"""Cosines with example images on the scale of cosines with texts.

Cosines between images are far higher than those between images and texts, so that a category that
is looked for by examples would win every image of categories that are looked for by name. Both have
a background in the corpus: a cosine with the examples becomes the cosine with the category's name
that lies as many standard deviations from that.

Dimensions:
    k  categories
    s  images of the sample
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from tasks.categories.logits import Logits
from tasks.retrieval.score_background import Background


@dataclass(frozen=True)
class ScoreScales:
    """slope [k] and offset [k] of each category: 1 and 0 where it is looked for by its text."""

    slope: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, sample: np.ndarray, searched: np.ndarray, texts: np.ndarray) -> Self:
        """The scales by a sample of the corpus.

        Args:
            sample: [s, d], embeddings of images.
            searched: [k, d], what each category is looked for by.
            texts: [k, d], its text; an equal row where that is the same.
        """
        slope, offset = np.ones(len(texts)), np.zeros(len(texts))
        for number in np.flatnonzero((searched != texts).any(axis=1)):
            found = Background.of((sample * searched[number]).sum(axis=1))
            wanted = Background.of((sample * texts[number]).sum(axis=1))
            slope[number] = wanted.spread / (found.spread or 1.0)
            offset[number] = wanted.centre - slope[number] * found.centre
        return cls(slope, offset)

    def scores(self, cosines: np.ndarray, category: np.ndarray) -> np.ndarray:
        """Cosines [n] with categories [n] on the scale of texts."""
        return np.asarray(self.slope[category] * cosines + self.offset[category])

    def logits(self, values: np.ndarray, logits: Logits) -> np.ndarray:
        """Logits [n, k] of scores on the scale of texts, from those of the cosines."""
        bias = logits.bias or 0.0
        return np.asarray(self.slope * (values - bias) + logits.scale * self.offset + bias)
