"""Colour features of patches: mean colour and its variation, without a network.

SelfMask's paper clusters patch features of self-supervised networks. Colour features replace them
where no such network is available, or where objects differ from the background in colour or texture
alone. They are ours, not the paper's.

Dimensions:
    h, w  rows, columns of an image
    r, c  rows, columns of patches
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

FloatArray = npt.NDArray[np.float32]

# Luma and two colour differences (BT.601), per unit of R, G, B.
_LUMA_CHROMA = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]],
    dtype=np.float32,
)
# A channel that is the same for all patches. Without it, cosines would separate two patches by the
# hue of tiny differences from the mean; with it, all patches near the mean are alike. Of 0, 1 and
# 2, the value 2 gave the best pseudo-masks on the made world's images.
_CONSTANT = 2.0
_SMALLEST_DEVIATION = 1e-3


def patch_colours(pixels: npt.NDArray[np.uint8], rows: int, columns: int) -> FloatArray:
    """Mean and deviation of luma and chroma in each patch, standardised over the image.

    Args:
        pixels: uint8 [h, w, 3], RGB.
        rows, columns: r and c, at least 1; patches need not be of whole pixels.

    Returns:
        float32 [r, c, 7]: three means, three deviations, and a constant.

    Raises:
        ValueError: pixels of another shape or type, or no patches.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ValueError(f"pixels must be uint8 [h, w, 3], got {pixels.dtype} {pixels.shape}")
    if rows < 1 or columns < 1:
        raise ValueError(f"rows and columns must be at least 1, got {rows}, {columns}")
    channels = pixels.astype(np.float32) @ _LUMA_CHROMA.T
    means = _patch_means(channels, rows, columns)
    variances = _patch_means(channels**2, rows, columns) - means**2
    found = np.concatenate([means, np.sqrt(variances.clip(min=0))], axis=-1)
    found -= found.mean(axis=(0, 1))
    found /= found.std(axis=(0, 1)) + _SMALLEST_DEVIATION
    constant = np.full((rows, columns, 1), _CONSTANT, dtype=np.float32)
    return np.concatenate([found, constant], axis=-1)


def _patch_means(channels: FloatArray, rows: int, columns: int) -> FloatArray:
    """float32 [h, w, n] to [r, c, n]."""
    means = [
        np.asarray(Image.fromarray(channel).resize((columns, rows), Image.Resampling.BOX))
        for channel in np.moveaxis(channels, -1, 0).copy()
    ]
    return np.stack(means, axis=-1)
