"""Arithmetic precision of networks: float32, or bfloat16 by autocast."""

from __future__ import annotations

from typing import Literal, get_args

import torch

Precision = Literal["float32", "bfloat16"]


def check_precision(precision: str) -> None:
    """Raises ValueError if `precision` is neither `float32` nor `bfloat16`."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be float32 or bfloat16, got {precision!r}")


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Context in which matrix products run in `precision`; weights stay float32.

    bfloat16 roughly doubles the speed where the hardware has it; results then agree with float32
    to two or three digits only.
    """
    # Nothing to cache: in one pass each weight is cast once.
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False
    )
