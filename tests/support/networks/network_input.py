"""Normalised input images for networks."""

from __future__ import annotations

import numpy as np
import torch

from zutis_model.layers.normalisation import normalise


def as_pixels(*images: np.ndarray) -> torch.Tensor:
    """uint8 [h, w, 3] each, of one size, to uint8 [b, 3, h, w]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def as_input(*images: np.ndarray) -> torch.Tensor:
    """The same, normalised with the ImageNet statistics: float32 [b, 3, h, w]."""
    return normalise(as_pixels(*images))
