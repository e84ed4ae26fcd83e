"""Sizes of SelfMask networks: the published one, others, and those of a state dict.

A file of weights holds no configuration; its names and shapes give all sizes but one, the number
of attention heads, which is therefore derived from the width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

_WIDE_HEAD, _NARROW_HEAD = 64, 32


def heads_of_width(width: int) -> int:
    """The default number of attention heads: 64 channels each, as in the published network, or 32
    where 64 don't divide the width.

    Raises:
        ValueError: 32 don't divide it either.
    """
    if width < 1 or width % _NARROW_HEAD:
        raise ValueError(f"width must be a multiple of {_NARROW_HEAD}, got {width}")
    return width // (_NARROW_HEAD if width % _WIDE_HEAD else _WIDE_HEAD)


@dataclass(frozen=True, kw_only=True)
class SelfMaskSizes:
    """The defaults are the published network's, ViT-S/8. Patches have 8 pixels a side throughout.

    Attributes:
        width: channels of tokens and queries; perceptrons between them are four times as wide.
        encoder_layers: of the vision transformer.
        decoder_layers: that turn queries into object queries.
        queries: proposals of an image.
        grid: patches along a side of the images that the position embedding was learned on; at
            any other size it is interpolated.
        heads: of attention, in encoder and decoder; 0: those of `heads_of_width`. A network with
            another number can be built, but its file doesn't record it, so loading needs it.

    Raises:
        ValueError: a size is below 1, or the heads don't divide the width.
    """

    width: int = 384
    encoder_layers: int = 12
    decoder_layers: int = 6
    queries: int = 20
    grid: int = 28
    heads: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "encoder_layers", "decoder_layers", "queries", "grid"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.heads == 0:
            object.__setattr__(self, "heads", heads_of_width(self.width))
        if self.heads < 0 or self.width % self.heads:
            raise ValueError(f"heads must divide the width {self.width}, got {self.heads}")

    @property
    def image_size(self) -> int:
        """Pixels along a side of the images that the position embedding was learned on."""
        return 8 * self.grid

    def __str__(self) -> str:
        if replace(self, queries=PUBLISHED.queries) == PUBLISHED:
            return f"ViT-S/8, {self.queries} queries"
        return (
            f"width {self.width}, {self.encoder_layers} + {self.decoder_layers} layers,"
            f" {self.grid} x {self.grid} patches of 8, {self.queries} queries"
        )


PUBLISHED = SelfMaskSizes()


def sizes_of_state_dict(state_dict: Mapping[str, Tensor]) -> SelfMaskSizes:
    """The sizes of the SelfMask that a state dict is of.

    Where a size's tensor is missing or unusable, the published network's size is taken: loading
    then names the missing keys.

    Raises:
        ValueError: the width is one that no network has.
    """
    queries, width = _shape(state_dict, "query_embed", (PUBLISHED.queries, PUBLISHED.width))
    default_position = (1, 1 + PUBLISHED.grid**2, width)
    _, positions, _ = _shape(state_dict, "encoder.pos_embed", default_position)
    grid = math.isqrt(max(positions - 1, 0))
    return SelfMaskSizes(
        width=width,
        encoder_layers=_layers(state_dict, "encoder.blocks.") or PUBLISHED.encoder_layers,
        decoder_layers=_layers(state_dict, "decoder.layers.") or PUBLISHED.decoder_layers,
        queries=queries,
        grid=grid if grid and grid**2 == positions - 1 else PUBLISHED.grid,
    )


def _shape(
    state_dict: Mapping[str, Tensor], name: str, default: tuple[int, ...]
) -> tuple[int, ...]:
    tensor = state_dict.get(name)
    usable = tensor is not None and tensor.ndim == len(default) and 0 not in tensor.shape
    return tuple(tensor.shape) if usable and tensor is not None else default


def _layers(names: Iterable[str], prefix: str) -> int:
    """Number of layers with parameters below a prefix."""
    return len({name[len(prefix) :].split(".")[0] for name in names if name.startswith(prefix)})
