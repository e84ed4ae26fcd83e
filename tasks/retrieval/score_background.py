"""Test whether a category's best score exceeds the best one expected by chance.

The cosines of one text with images that do not show its category vary, and the maximum over many
images is high by chance. The normal distribution of this background is fitted to the lower quarter
of the scores, which has no images of the category even if half of the corpus shows it; the maximum
by chance is the expected one of as many draws (Blom 1958).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from scipy.special import ndtri

FEWEST: Final = 20
"""Images below which no test is possible."""
_CLEARLY = 1.0
"""Required excess over the expected maximum, in standard deviations; the maximum varies by half."""


@dataclass(frozen=True)
class Background:
    """The distribution of a text's cosines with images that don't show its category.

    Attributes:
        centre: mean; spread: standard deviation.
    """

    centre: float
    spread: float

    @classmethod
    def of(cls, scores: np.ndarray) -> Self:
        """The background of cosines [n] with images of the corpus, all or an even sample."""
        low, quarter = np.quantile(scores, [0.05, 0.25])
        spread = float(quarter - low) / float(ndtri(0.25) - ndtri(0.05))
        return cls(float(quarter) - spread * float(ndtri(0.25)), spread)


def exceeds_background(best: float, scores: np.ndarray, images: int) -> bool:
    """Whether the best score exceeds the expected maximum by chance.

    Args:
        best: the category's highest cosine in the corpus.
        scores: [n], its cosines with images of the corpus, all or an even sample.
        images: number of images in the corpus, over which `best` is the maximum.
    """
    if len(scores) < FEWEST:
        return True
    background = Background.of(scores)
    by_chance = float(ndtri((images - 0.375) / (images + 0.25)))
    return best > background.centre + background.spread * (by_chance + _CLEARLY)
