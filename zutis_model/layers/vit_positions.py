"""Position embeddings of timm's vision transformers at any size, as in SelfMask and ReCo.

CLIP's is resized in another way: see `zutis_model.clip.dense`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor


def resized_position_embedding(
    position: Tensor, rows: int, columns: int, prefix: int = 1
) -> Tensor:
    """The learned embedding of a square grid, for a grid of another size.

    Args:
        position: float [1, prefix + g · g, d], learned on g x g patches.
        rows, columns: of the grid that is wanted.
        prefix: tokens before the patches (class token, distillation token), which keep theirs.

    Returns:
        float [1, prefix + rows · columns, d]; `position` itself where the number of patches is
        that of training.
    """
    num_patches = position.shape[1] - prefix
    # The references compare counts, not shapes: a grid of 14 x 56 gets the embedding of 28 x 28
    # unresized, in row-major order. The published masks were made that way.
    if rows * columns == num_patches:
        return position
    side = math.isqrt(num_patches)
    grid = position[:, prefix:].transpose(1, 2).reshape(1, -1, side, side)
    # Bicubic to the exact size, without antialiasing (timm's own resize antialiases).
    resized = F.interpolate(grid, size=(rows, columns), mode="bicubic")
    return torch.cat([position[:, :prefix], resized.flatten(2).transpose(1, 2)], dim=1)
