"""Whether a category's best image is more than the best of so many that do not show it.

The cosines of one text with all images of a corpus have a spread of their own, and the largest of
many is high by chance. The spread is read from the lower quarter of the scores, where images that
show the category are not, even if half of the corpus does; what chance gives is the expected
maximum of as many draws from a normal distribution (Blom 1958).
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

_LEAST = 20
"""Images below which nothing can be said."""
_CLEARLY = 1.0
"""Standard deviations above the expected maximum, which itself varies by half of one."""


def stands_out(best: float, scores: np.ndarray, images: int) -> bool:
    """Whether the best score rises above what chance gives.

    Args:
        best: the category's highest cosine in the corpus.
        scores: [n], its cosines with images of the corpus, all or evenly chosen ones.
        images: how many the corpus has, of which `best` is the highest.
    """
    if len(scores) < _LEAST:
        return True
    low, quarter = np.quantile(scores, [0.05, 0.25])
    spread = float(quarter - low) / float(ndtri(0.25) - ndtri(0.05))
    centre = float(quarter) - spread * float(ndtri(0.25))
    by_chance = float(ndtri((images - 0.375) / (images + 0.25)))
    return best > centre + spread * (by_chance + _CLEARLY)
