"""Logits and probabilities from cosines of images and texts: softmax for CLIP, sigmoid for SigLIP.

A CLIP learns which of several texts belongs to an image: the probabilities of an image, over all
texts, are a softmax and sum to 1 (Radford et al. 2021). A SigLIP learns for each pair separately
whether it matches: a sigmoid of the scaled cosine and a learned bias, independent of the other
texts (Zhai et al. 2023, section 3.2).

Dimensions:
    n  images
    k  texts
    d  width of the joint embedding
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit


@dataclass(frozen=True)
class Logits:
    """A model's scale and bias of logits.

    Attributes:
        scale: factor of the cosines.
        bias: learned bias of a SigLIP; None for a CLIP.
    """

    scale: float
    bias: float | None = None

    def __call__(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Logits, float64 [n, k], of float64 [n, d] and [k, d] with unit rows."""
        return self._biased(self.scale * images @ texts.T)

    def of_cosines(self, cosines: np.ndarray) -> np.ndarray:
        """Logits of cosines of any shape."""
        return self._biased(self.scale * cosines)

    def _biased(self, scaled: np.ndarray) -> np.ndarray:
        return scaled if self.bias is None else scaled + self.bias

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """float64 [n, k], 0..1, of logits [n, k] that have a column for each text of a vocabulary.

        With a softmax each row sums to 1; with a sigmoid an image may have several likely texts,
        or none.
        """
        if self.bias is not None:
            return np.asarray(expit(logits))
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
