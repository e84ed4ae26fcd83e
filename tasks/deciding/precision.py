"""How many of a category's labels are right, estimated from those of a random sample."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

_Z: Final = 1.959963984540054  # of 95 %


@dataclass(frozen=True)
class Precision:
    """An estimate of a share.

    Attributes:
        right: labels that were found to be right; looked_at: of so many.
        share: right over looked_at, 0..1.
        low, high: Wilson's interval of 95 %, 0..1.
    """

    right: int
    looked_at: int
    share: float
    low: float
    high: float


def precision_of(right: int, looked_at: int) -> Precision:
    """The share of right labels with Wilson's score interval, which holds near 0 and 1 and for few
    labels too.

    Args:
        right: 0 to looked_at.
        looked_at: at least 1, drawn at random.
    """
    share, square = right / looked_at, _Z * _Z / looked_at
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / looked_at + square / (4 * looked_at))
    half /= 1 + square
    low = 0.0 if right == 0 else max(0.0, middle - half)
    high = 1.0 if right == looked_at else min(1.0, middle + half)
    return Precision(right, looked_at, share, low, high)


def precision_by_category(looked_at: Iterable[tuple[int, bool]]) -> list[dict[str, Any]]:
    """Estimates as plain values, with `category_id`, in the order of these.

    Args:
        looked_at: category_id of each label of a random sample, and whether it is right.
    """
    right: dict[int, int] = {}
    total: dict[int, int] = {}
    for number, is_right in looked_at:
        right[number] = right.get(number, 0) + is_right
        total[number] = total.get(number, 0) + 1
    return [
        {"category_id": number, **_rounded(precision_of(right[number], total[number]))}
        for number in sorted(total)
    ]


def _rounded(precision: Precision) -> dict[str, Any]:
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in asdict(precision).items()
    }
