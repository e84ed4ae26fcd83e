"""A category for each pixel: similarity of patch tokens to text embeddings (Shin et al. 2023).

The similarity maps are made at the tokens' resolution and upsampled, then the best category of a
pixel is chosen, as in the ZUTIS reference (`networks/zutis.py`, `predict`). Labels are found with
a running maximum over a few categories at a time: full-resolution maps of a thousand categories
are never held together.

Dimensions:
    b     images in the batch
    h, w  token rows, columns
    H, W  rows, columns of the result
    k     categories
    d     width of the joint embedding
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from zutis_model.layers.precision import autocast

_LOGITS_AT_ONCE = 2**23  # of `semantic_labels`: 32 MiB
_SHORTEST_OF_STRIPS = 128


@torch.no_grad()
def semantic_logits(
    patch_tokens: Tensor, text_embeddings: Tensor, size: tuple[int, int] | None = None
) -> Tensor:
    """Cosine similarity of every pixel to every category.

    Args:
        patch_tokens: float [b, h, w, d], unit norm along d.
        text_embeddings: float [k, d], unit rows, on the same device.
        size: (H, W) of the result, rows first; None: the tokens' (h, w).

    Returns:
        float32 [b, k, H, W], about -1..1, without gradient. For the best category alone
        `semantic_labels` needs far less memory.

    Raises:
        ValueError: other shapes or types, widths that differ, no category, a size below 1, or
            values that aren't finite.
    """
    check_size(size)
    similarities = _similarities(patch_tokens, text_embeddings)
    return similarities if size is None else upsample(similarities, size)


@torch.no_grad()
def semantic_labels(
    patch_tokens: Tensor,
    text_embeddings: Tensor,
    size: tuple[int, int] | None = None,
    *,
    dtype: torch.dtype = torch.int64,
) -> Tensor:
    """The most similar category of every pixel; the first of equally similar ones.

    Equals `semantic_logits(...).argmax(dim=1)`. Held at once are the k maps at the tokens'
    resolution, the result, and 32 MiB of full-resolution maps, of large images some columns of
    one map.

    Args:
        patch_tokens: float [b, h, w, d], unit norm along d.
        text_embeddings: float [k, d], unit rows, on the same device.
        size: (H, W) of the result, rows first; None: the tokens' (h, w).
        dtype: of the result, one that holds k - 1: int64 is what PyTorch indexes and counts with,
            and int16 a quarter of its memory.

    Returns:
        `dtype` [b, H, W] in 0..k-1.

    Raises:
        ValueError: as `semantic_logits`.
    """
    check_size(size)
    similarities = _similarities(patch_tokens, text_embeddings)
    b, k, *grid = similarities.shape
    height, width = grid if size is None else size
    step = max(1, _LOGITS_AT_ONCE // max(1, b * height * width))

    if takes_strips((height, width), b):
        return _labels_in_strips(similarities, (height, width), dtype)
    best = similarities.new_full((b, height, width), -torch.inf)
    labels = torch.zeros((b, height, width), dtype=torch.int64, device=best.device)
    for start in range(0, k, step):
        maps = similarities[:, start : start + step]
        top, index = (maps if size is None else upsample(maps, size)).max(dim=1)
        # Strictly: an equal value of a later category doesn't win, as in `argmax`.
        better = top > best
        best = torch.where(better, top, best)
        labels = torch.where(better, index.add_(start), labels)
    return labels.to(dtype)


def _labels_in_strips(similarities: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """`semantic_labels` of similarities [b, k, h, w], some columns after the others."""
    labels = torch.zeros((len(similarities), *size), dtype=dtype, device=similarities.device)
    for columns, maps in upsampled_strips(similarities, size):
        here = labels[..., columns]
        best = torch.full(here.shape, -torch.inf, device=labels.device)
        for label, top in enumerate(maps):
            here.masked_fill_(top > best, label)
            torch.maximum(best, top, out=best)
    return labels


def takes_strips(size: tuple[int, int], images: int = 1) -> bool:
    """Whether maps of that (H, W) are so large that `upsampled_strips` is for them.

    Where a side is short, PyTorch's interpolation has another kernel, with other roundings.
    """
    return images * size[0] * size[1] > _LOGITS_AT_ONCE and min(size) >= _SHORTEST_OF_STRIPS


def upsampled_strips(
    maps: Tensor, size: tuple[int, int]
) -> Iterator[tuple[slice, Iterator[Tensor]]]:
    """`upsample` of maps that are too large at that size, some columns and one map at a time.

    The same values to the last bit: along rows first, for each map alone, and then along a strip's
    columns, where the strip's place makes no difference.

    Args:
        maps: float32 [b, c, h, w].
        size: (H, W), of which `takes_strips` is true.

    Yields:
        The columns, and for these one after the other of the c maps: float32 [b, H, columns].
    """
    height, width = size
    step = max(1, _LOGITS_AT_ONCE // max(1, len(maps) * height))
    for left in range(0, width, step):
        columns = slice(left, min(left + step, width))
        yield columns, (_strip(one, size, columns) for one in torch.split(maps, 1, dim=1))


def _strip(one: Tensor, size: tuple[int, int], columns: slice) -> Tensor:
    """Columns of one map each, [b, 1, h, w]: float32 [b, H, columns]."""
    wide = upsample(one, (one.shape[2], size[1]))[..., columns].contiguous()
    return upsample(wide, (size[0], wide.shape[3]))[:, 0]


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners not aligned, no antialiasing: float32 [b, c, h, w] to [b, c, H, W]."""
    # One channel each: PyTorch picks another kernel, with other roundings, for many channels of
    # a small image, and a map's result must not depend on its neighbours in a chunk.
    single = maps.flatten(0, 1)[:, None]
    upsampled = F.interpolate(single, size=size, mode="bilinear", align_corners=False)
    return upsampled.view(*maps.shape[:2], *size)


def check_size(size: tuple[int, int] | None) -> None:
    """Raises ValueError unless `size` is None or two numbers of at least 1."""
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"size must be (height, width), both at least 1, got {size}")


def check_embeddings(patch_tokens: Tensor, text_embeddings: Tensor) -> None:
    """Check that tokens and text embeddings can be compared.

    Raises:
        ValueError: `patch_tokens` isn't float [b, h, w, d] with a pixel, `text_embeddings` isn't
            float [k, d] with a category, their widths differ, or a value isn't finite.
    """
    for name, tensor, shape in (
        ("patch_tokens", patch_tokens, "[b, h, w, d]"),
        ("text_embeddings", text_embeddings, "[k, d]"),
    ):
        if not tensor.is_floating_point() or tensor.ndim != shape.count(",") + 1:
            raise ValueError(
                f"{name} must be float {shape}, got {tensor.dtype} {list(tensor.shape)}"
            )
    if 0 in patch_tokens.shape[1:]:
        raise ValueError(f"patch_tokens must have a pixel, got {list(patch_tokens.shape)}")
    if len(text_embeddings) == 0:
        raise ValueError("text_embeddings must have a row for each category, got none")
    if text_embeddings.shape[1] != patch_tokens.shape[3]:
        raise ValueError(
            f"text_embeddings are {text_embeddings.shape[1]} wide, "
            f"patch_tokens {patch_tokens.shape[3]}"
        )
    for name, tensor in (("patch_tokens", patch_tokens), ("text_embeddings", text_embeddings)):
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")


def _similarities(patch_tokens: Tensor, text_embeddings: Tensor) -> Tensor:
    """float32 [b, k, h, w]."""
    check_embeddings(patch_tokens, text_embeddings)
    # In float32 also under the caller's autocast: half precision moves labels.
    with autocast(patch_tokens.device, "float32"):
        return torch.einsum("bhwd,kd->bkhw", patch_tokens.float(), text_embeddings.float())
