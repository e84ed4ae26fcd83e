"""Whether this process was told to stop, for work that a signal can't reach.

Python gives signals to the main thread. What works in another one asks here, once an image or so,
and gives up; nothing is lost by it that a kill would not lose. Whoever is about to keep something
says so, and is waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_stop_requested = threading.Event()
_finishing: list[object] = []


class Stopped(BaseException):
    """Work was given up because the process is to stop; no failure, and nothing of an image's."""


def stop() -> None:
    """Tell all work of this process to give up."""
    _stop_requested.set()


def is_stopping() -> bool:
    return _stop_requested.is_set()


def check() -> None:
    """Give up here, if this process is to stop and nothing has to be finished first.

    Raises:
        Stopped: it is.
    """
    if _stop_requested.is_set() and not is_finishing():
        raise Stopped


@contextmanager
def finishing() -> Iterator[None]:
    """The block notices by itself that it is to stop, and keeps what it has: wait for its end."""
    block = object()
    _finishing.append(block)
    try:
        yield
    finally:
        _finishing.remove(block)


def is_finishing() -> bool:
    """Whether somebody is in a block of `finishing`."""
    return bool(_finishing)
