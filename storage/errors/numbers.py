"""Checks of users' numbers: infinite, NaN and absurdly large ones are refused."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Final

from storage.errors.exceptions import ConfigError

LARGEST: Final = 2**31 - 1
"""Of counts and measures: pixels, images, megabytes, seconds."""
LARGEST_SEED: Final = 2**63 - 1
_LONG: Final = 10**30


def check_numbers(settings: Any) -> None:
    """Check all numbers of a dataclass, those in its tuples included.

    Raises:
        ConfigError: one is infinite, not a number, or larger than anything it could count.
    """
    check_named_numbers({each.name: getattr(settings, each.name) for each in fields(settings)})


def check_named_numbers(values: Mapping[str, Any]) -> None:
    """The same for values by name; those that are no numbers pass."""
    for name, value in values.items():
        largest = LARGEST_SEED if name == "seed" else LARGEST
        for number in _numbers(value):
            if abs(number) > largest or not math.isfinite(number):
                raise ConfigError(
                    f"{name} is {shown(number)}: choose a number of at most {largest:,}."
                )


def shown(value: Any) -> str:
    """A value in a message; Python writes no integer of more than 4,300 digits."""
    if isinstance(value, int) and abs(value) > _LONG:
        return f"a number of {value.bit_length():,} bits"
    return repr(value)


def _numbers(value: Any) -> Iterable[int | float]:
    if isinstance(value, bool):
        return ()
    if isinstance(value, tuple):
        return [number for each in value for number in _numbers(each)]
    return (value,) if isinstance(value, int | float) else ()
