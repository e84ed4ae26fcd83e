"""Cancellation of work in threads, which signals do not reach.

Python delivers signals to the main thread. Work in other threads checks here, about once per image,
and ends; it loses no more than with a kill. Blocks that save something are waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_stop_requested = threading.Event()
_finishing: list[object] = []


class Stopped(BaseException):
    """Work was cancelled because the process stops; not an error, and not due to an image."""


def stop() -> None:
    """Request cancellation of all work of this process."""
    _stop_requested.set()


def is_stopping() -> bool:
    """Whether cancellation was requested."""
    return _stop_requested.is_set()


def check() -> None:
    """Cancel here, if that was requested and no `finishing` block runs.

    Raises:
        Stopped: the work is cancelled.
    """
    if _stop_requested.is_set() and not is_finishing():
        raise Stopped


@contextmanager
def finishing() -> Iterator[None]:
    """A block that notices the request by itself and saves its work; its end is waited for."""
    block = object()
    _finishing.append(block)
    try:
        yield
    finally:
        _finishing.remove(block)


def is_finishing() -> bool:
    """Whether a `finishing` block runs."""
    return bool(_finishing)
