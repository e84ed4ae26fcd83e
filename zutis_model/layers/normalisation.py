"""Normalising images: ImageNet's statistics for SelfMask and ZUTIS; CLIP brings its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(
    images: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """Turn 8-bit RGB images into network input: `(image / 255 - mean) / std`.

    The order of the operations is torchvision's (`to_tensor`, then `normalize`), so the result
    equals theirs bit for bit.

    Args:
        images: uint8 [..., 3, h, w], RGB.
        mean, std: of each channel, for values from 0 to 1.

    Returns:
        float32 [..., 3, h, w] on the same device, about -2.2..2.7.

    Raises:
        ValueError: another type, or no three channels.
    """
    if images.dtype != torch.uint8 or images.ndim < 3 or images.shape[-3] != 3:
        raise ValueError(f"expected uint8 [..., 3, h, w], got {images.dtype} {list(images.shape)}")
    offset = torch.tensor(mean, device=images.device).view(3, 1, 1)
    scale = torch.tensor(std, device=images.device).view(3, 1, 1)
    return images.to(torch.float32).div_(255).sub_(offset).div_(scale)


def denormalise(
    images: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """The 8-bit image that the reference recovers from network input, to refine masks on it.

    As its `convert_tensor_to_pil_image` (utils/utils.py) it truncates where it should round, so
    that a few percent of the values are one grey level below those that `normalise` was given.

    Args:
        images: float32 [..., 3, h, w], normalised.
        mean, std: that they were normalised with.

    Returns:
        uint8 [..., 3, h, w] on the same device.
    """
    offset = torch.tensor(mean, device=images.device).view(3, 1, 1)
    scale = torch.tensor(std, device=images.device).view(3, 1, 1)
    return ((images * scale + offset) * 255).clip(0, 255).to(torch.uint8)
