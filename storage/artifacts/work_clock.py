"""When the work behind an artifact began.

A stage opens an attempt once it has something to write, which may be hours after its work has
begun. Whoever runs the stage says so here, and `ArtifactStore` takes the artifact's time from it.
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
    """When this thread's work began, by `time.monotonic`; now, where nobody has said so."""
    then = _began.get()
    return time.monotonic() if then is None else then
