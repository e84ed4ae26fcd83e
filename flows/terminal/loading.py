"""A notice that the program is loading; imports only the standard library's small modules."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

_PATIENCE: Final = 1.0
_LOADING: Final = "Loading the program …"


@contextmanager
def speaking_when_slow(stream: TextIO, patience: float = _PATIENCE) -> Iterator[None]:
    """Show that the program is loading if the block takes longer than `patience` seconds.

    A terminal shows a notice that is erased in the end; other outputs get a line. Of several
    processes that train together, only the first prints it. It goes to standard error, to keep
    standard output clean for other programs.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    erasable = stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    spoken = threading.Event()

    def speak() -> None:
        spoken.set()
        stream.write(_LOADING if erasable else f"{_LOADING}\n")
        stream.flush()

    timer = threading.Timer(patience, speak)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if spoken.is_set() and erasable:
            stream.write("\r\x1b[K")
            stream.flush()
