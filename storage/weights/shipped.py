"""Weights that are part of this package: the small models of the demonstration.

They are in `shipped_weights/`, with a card about their training and accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, kw_only=True)
class ShippedWeights:
    """Weights that are part of this package: they need no download and no record."""

    name: str
    """As users write it: `made-ViT-8:demo`, `demo`."""
    model: str
    """`CLIP` or `SelfMask`."""
    path: Path
    """The file's path, which need not exist."""
    maker: str
    """The command that made the file, and can make it again."""


_SHIPPED_FOLDER: Final = Path(__file__).with_name("shipped_weights")

SHIPPED: Final[Mapping[str, ShippedWeights]] = MappingProxyType(
    {
        "made-ViT-8:demo": ShippedWeights(
            name="made-ViT-8:demo",
            model="CLIP",
            path=_SHIPPED_FOLDER / "made-ViT-8.safetensors",
            maker="zutis demo-train clip",
        ),
        "demo": ShippedWeights(
            name="demo",
            model="SelfMask",
            path=_SHIPPED_FOLDER / "selfmask-demo.safetensors",
            maker="zutis demo-train selfmask",
        ),
    }
)
"""The small CLIP and the small SelfMask of `zutis demo`."""


def shipped(name: str) -> ShippedWeights | None:
    """The shipped weights of that name; None if there are none."""
    return SHIPPED.get(name)
