"""Checks of a network's input images, so that bad ones don't fail deep inside."""

from __future__ import annotations

import torch
from torch import Tensor


def check_images(images: Tensor, *, training: bool = False) -> None:
    """Check a batch of normalised images.

    Args:
        images: float [b, 3, h, w]; b may be 0, h and w are at least 1.
        training: don't check the values. In a prediction, a NaN would lead to a mask that looks
            like any other; in training it shows in the loss, and the check would stall a GPU.

    Raises:
        ValueError: not one tensor of that shape and a floating-point type (images of unequal
            sizes make no batch: call once for each), or, outside of training, a NaN or infinite
            value.
    """
    if not isinstance(images, Tensor):
        raise ValueError(
            f"images must be one tensor [b, 3, h, w], got {type(images).__name__}; images of "
            "different sizes are passed one batch each"
        )
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise ValueError(f"images must be [b, 3, h, w], got {list(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"images must be normalised floats, got {images.dtype}")
    if not training and not torch.isfinite(images).all():
        raise ValueError("images contain NaN or infinite values")
