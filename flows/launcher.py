"""The door of `zutis`: says that the program is loading before it imports what takes long.

The command line is some hundreds of modules, and a cold disk or a busy machine takes seconds to
read them. Nothing but the standard library's smallest modules is imported here.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from flows.processes import interruption

_PATIENCE: Final = 1.0
_LOADING: Final = "Loading the program …"


def main() -> None:
    """Entry point."""
    interruption.listen()
    try:
        with speaking_when_slow(sys.stderr):
            from flows.cli import main as run_command_line
    except BaseException:
        if interruption.interrupted():
            interruption.end()
        raise
    run_command_line()


@contextmanager
def speaking_when_slow(stream: TextIO, patience: float = _PATIENCE) -> Iterator[None]:
    """Say that the program is loading, should the block take longer than `patience` seconds.

    A terminal forgets it in the end; anything else gets a line. Of several processes that work
    together the first one alone speaks. It goes where errors go: what a command writes for other
    programs stays whole.
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
