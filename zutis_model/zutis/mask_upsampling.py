"""Binary masks of upsampled proposals: bilinear interpolation, stored as one bit a pixel.

The same as upsampling and comparing with the threshold (ZUTIS reference, `networks/zutis.py`,
`predict`). On a CPU only those pixels are interpolated whose four neighbours lie on both sides of
the threshold: between neighbours on one side, every value lies there too.

Dimensions:
    n     proposals
    h, w  their rows, columns
    H, W  rows, columns of the masks
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zutis_model.layers.compilation import compiled
from zutis_model.zutis.semantic_prediction import upsample

_PIXELS_AT_ONCE = 2**23  # of upsampled proposals on a GPU: 32 MiB
# Rounding may carry an interpolated value over a threshold that its neighbours touch.
_MARGIN = np.float32(1e-6)
_BELOW, _ABOVE, _MIXED = 0, 1, 2


@torch.no_grad()
def upsampled_masks(proposals: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Masks of the pixels where upsampled proposals are above a threshold.

    Args:
        proposals: float32 [n, h, w] in 0..1.
        size: (H, W), rows first.
        threshold: 0..1; strictly above it counts. Upsampling is bilinear, corners not aligned.

    Returns:
        bool [n, H, W] on the same device. A value that equals the threshold but for rounding may
        fall on either side.
    """
    if proposals.device.type != "cpu":
        return _in_blocks(proposals, size, threshold)
    return _rows_of_masks(proposals, size, threshold, 0, size[0])


@torch.no_grad()
def blocks_of_masks(
    proposals: Tensor, size: tuple[int, int], threshold: float, *, bytes_at_once: int
) -> Iterator[Tensor]:
    """`upsampled_masks` piece by piece, for images whose masks are too many to hold.

    Args:
        proposals, size, threshold: as of `upsampled_masks`.
        bytes_at_once: of a piece, at most, unless one row of each mask has more. On a GPU, all
            masks are held as bits.

    Yields:
        bool [n, pixels]: the same pixels of all masks, and all of them once.
    """
    n, (height, width) = len(proposals), size
    if proposals.device.type != "cpu":
        yield from _blocks_of_bits(proposals, size, threshold, bytes_at_once)
        return
    step = max(1, bytes_at_once // max(1, n * width))
    for top in range(0, height, step):
        bottom = min(top + step, height)
        yield _rows_of_masks(proposals, size, threshold, top, bottom).flatten(1)


def _rows_of_masks(
    proposals: Tensor, size: tuple[int, int], threshold: float, top: int, bottom: int
) -> Tensor:
    """The rows of masks from `top` up to `bottom`: bool [n, bottom - top, W], on a CPU."""
    values = np.ascontiguousarray(proposals.float().numpy())
    masks = np.zeros((len(values), bottom - top, size[1]), dtype=np.bool_)
    if values.size:
        rows, row_weights = _neighbours(values.shape[1], size[0])
        columns, column_weights = _neighbours(values.shape[2], size[1])
        _interpolate_where_mixed(
            values, np.float32(threshold),
            rows[top:bottom], row_weights[top:bottom], columns, column_weights, masks,
        )  # fmt: skip
    return torch.from_numpy(masks)


def _blocks_of_bits(
    proposals: Tensor, size: tuple[int, int], threshold: float, bytes_at_once: int
) -> Iterator[Tensor]:
    """Of each proposal all pixels are upsampled at once, and an eighth of their bytes is kept."""
    places = torch.arange(8, dtype=torch.uint8, device=proposals.device)
    n, pixels = len(proposals), size[0] * size[1]
    packed = torch.zeros((n, -(-pixels // 8)), dtype=torch.uint8, device=proposals.device)
    for bits, proposal in zip(packed, proposals, strict=True):
        mask = upsample(proposal[None, None], size).flatten() > threshold
        mask = torch.nn.functional.pad(mask, (0, 8 * len(bits) - pixels)).view(-1, 8)
        bits.copy_((mask.byte() << places).sum(dim=1, dtype=torch.uint8))
    step = max(1, bytes_at_once // max(1, 8 * n))
    for start in range(0, packed.shape[1], step):
        part = packed[:, start : start + step, None]
        yield ((part >> places) & 1).bool().flatten(1)[:, : pixels - 8 * start]


def _in_blocks(proposals: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    masks = torch.empty((len(proposals), *size), dtype=torch.bool, device=proposals.device)
    step = max(1, _PIXELS_AT_ONCE // (size[0] * size[1]))
    for start in range(0, len(proposals), step):
        part = proposals[start : start + step]
        masks[start : start + step] = upsample(part[None], size)[0] > threshold
    return masks


def _neighbours(length: int, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each of `size` pixels: the first of its two neighbours, and the second one's weight.

    In PyTorch's arithmetic. Past the borders, the outermost value counts alone.
    """
    scale = np.float32(length) / np.float32(size)
    centres = scale * (np.arange(size, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    centres = np.maximum(centres, np.float32(0))
    first = np.minimum(centres.astype(np.int64), length - 1)
    return first, (centres - first).astype(np.float32)


@compiled
def _interpolate_where_mixed(
    values: npt.NDArray[np.float32],
    threshold: np.float32,
    rows: npt.NDArray[np.int64],
    row_weights: npt.NDArray[np.float32],
    columns: npt.NDArray[np.int64],
    column_weights: npt.NDArray[np.float32],
    masks: npt.NDArray[np.bool_],
) -> None:
    """Set the true pixels of masks [n, H, W] that are all false."""
    n, height, width = values.shape
    # A cell lies between four neighbours; all pixels of a row that lie in one follow another.
    starts = np.searchsorted(columns, np.arange(width + 1))
    sides = np.empty((height, width), dtype=np.uint8)
    one = np.float32(1)
    for i in range(n):
        _find_sides(values[i], threshold, sides)
        for y in range(len(rows)):
            top = rows[y]
            bottom = min(top + 1, height - 1)
            lower = row_weights[y]
            for left in range(width):
                side = sides[top, left]
                if side == _BELOW:
                    continue
                begin, end = starts[left], starts[left + 1]
                if side == _ABOVE:
                    masks[i, y, begin:end] = True
                    continue
                right = min(left + 1, width - 1)
                a, b = values[i, top, left], values[i, top, right]
                c, d = values[i, bottom, left], values[i, bottom, right]
                for x in range(begin, end):
                    share = column_weights[x]
                    above = (one - share) * a + share * b
                    below = (one - share) * c + share * d
                    masks[i, y, x] = (one - lower) * above + lower * below > threshold


@compiled
def _find_sides(
    values: npt.NDArray[np.float32], threshold: np.float32, sides: npt.NDArray[np.uint8]
) -> None:
    """On which side of the threshold each cell's four neighbours are."""
    height, width = values.shape
    for top in range(height):
        bottom = min(top + 1, height - 1)
        for left in range(width):
            right = min(left + 1, width - 1)
            a, b = values[top, left], values[top, right]
            c, d = values[bottom, left], values[bottom, right]
            if max(a, b, c, d) <= threshold - _MARGIN:
                sides[top, left] = _BELOW
            elif min(a, b, c, d) > threshold + _MARGIN:
                sides[top, left] = _ABOVE
            else:
                sides[top, left] = _MIXED
