"""Compilation of loops with Numba: cached, and with the arithmetic as written."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function on its first call, and keep the result on disk for later processes.

    Floating point stays strict (no reordering, no contraction): the same input gives the same
    bits on every call and with any number of threads. The interpreter's lock is not held, so
    threads that call it run side by side. Division by zero gives an infinity or NaN, as in NumPy.

    A compiled function may call compiled functions of its own module only: the cache of a caller
    would not notice that a function elsewhere has changed.

    The cache lies beside the module; where that can't be written, in the user's cache folder; where
    that can't be either, each process compiles for itself.
    """
    try:
        made = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # Numba's "no locator available": no folder can be written
        made = njit(nogil=True, error_model="numpy")(function)
    return cast("Callable[P, R]", made)
