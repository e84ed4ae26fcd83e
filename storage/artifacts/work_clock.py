"""Start times of work, from which artifacts' durations are computed.

A stage opens an attempt once it has something to write, which may be hours after its work has
begun. The stage's caller marks the start here, and `ArtifactStore` reads it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

_began: ContextVar[float | None] = ContextVar("began", default=None)


@contextlib.contextmanager
def working() -> Iterator[None]:
    """Attempts that this thread opens in the block count their seconds from its beginning."""
    token = _began.set(time.monotonic())
    try:
        yield
    finally:
        _began.reset(token)


def began() -> float:
    """The start of this thread's work, by `time.monotonic`; the present time if it is unmarked."""
    then = _began.get()
    return time.monotonic() if then is None else then
