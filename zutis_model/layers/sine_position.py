"""Sine position encoding of a grid of tokens, as in DETR (Carion et al. 2020) and MaskFormer.

Reference: `networks/positional_embedding.py` of the ZUTIS reference, normalised.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TEMPERATURE = 10_000.0
_EPSILON = 1e-6  # kept from the reference: it keeps the last position just below 2 pi


def sine_position(
    rows: int, columns: int, width: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Sines and cosines of each token's place, which are added to the keys of an attention.

    Positions count from 1 and are scaled to 2 pi at the last row and column, so that the encoding
    covers the same range at any size.

    Args:
        rows, columns: size of the grid, tokens; at least 1.
        width: channels; a multiple of 4.
        device: where the result lives.

    Returns:
        float32 [rows * columns, width], row-major; the first half of the channels holds y, the
        second x, sine and cosine in turns.

    Raises:
        ValueError: `width` is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"width must be a multiple of 4, got {width}")
    y = _axis(rows, width // 2, device)[:, None].expand(-1, columns, -1)
    x = _axis(columns, width // 2, device)[None].expand(rows, -1, -1)
    return torch.cat([y, x], dim=-1).flatten(0, 1)


def _axis(length: int, channels: int, device: torch.device | str) -> Tensor:
    """Encoding of one axis, float32 [length, channels]."""
    position = torch.arange(1, length + 1, dtype=torch.float32, device=device)
    position = position / (length + _EPSILON) * (2 * math.pi)
    exponent = torch.arange(0, channels, 2, dtype=torch.float32, device=device) / channels
    angles = position[:, None] / _TEMPERATURE**exponent
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
