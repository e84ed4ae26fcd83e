"""Notices while a command waits: a counter on a terminal, lines elsewhere.

Pipes and logs of CI runs show no bar and no spinner. They get a line that names what the command
waits for, and a line with the elapsed time every ten seconds, so that a wait doesn't look like a
hang.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tasks.stage.contract import SilentProgress

PATIENCE: Final = 1.0
"""Seconds until the first notice of a step that is usually quick."""

_EVERY: Final = 10.0


class Wait:
    """A wait with its progress. Thread-safe.

    Attributes:
        what: description, such as `reading images`.
        total: number of steps; 0 if unknown.
    """

    def __init__(self, what: str, total: int = 0) -> None:
        self.what, self.total = what, total
        self._done = 0
        self._started = time.monotonic()
        self._lock = threading.Lock()

    @property
    def done(self) -> int:
        """Number of finished steps."""
        return self._done

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            self._done += amount

    def describe(self) -> str:
        """One line: description, progress and elapsed time."""
        seconds = int(time.monotonic() - self._started)
        facts = [f"{self._done:,} of {self.total:,}"] if self.total and self._done else []
        facts += [f"{seconds:,} s"] if seconds else []
        return f"{self.what} …{' ' if facts else ''}{', '.join(facts)}"


class CountedProgress(SilentProgress):
    """The progress of tasks as the steps of a wait."""

    def __init__(self, wait: Wait) -> None:
        self._wait = wait

    def advance(self, amount: int = 1, *, rejected: str = "", **counts: int) -> None:
        self._wait.advance(amount)


@contextmanager
def waiting_for(
    console: Console,
    what: str,
    *,
    total: int = 0,
    patience: float = PATIENCE,
    every: float = _EVERY,
) -> Iterator[Wait]:
    """Show what the command waits for while the block runs.

    Args:
        console: where to. A terminal shows a spinner and the time at once, and erases them in the
            end; other outputs get lines that stay.
        what: description, without markup.
        total: number of steps, which the block counts by `Wait.advance`; 0 if unknown.
        patience: seconds before the first line; 0 for steps that always take long.
        every: seconds between lines.
    """
    wait = Wait(what, total)
    if shows_bars(console):
        with _spinning(console, wait):
            yield wait
    else:
        with _telling(console, wait, patience, every):
            yield wait


def shows_bars(console: Console) -> bool:
    """Whether the console can overwrite its output."""
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def _spinning(console: Console, wait: Wait) -> Iterator[None]:
    counted = [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()] if wait.total else []
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description} …"),
        *counted,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        get_time=time.monotonic,
    )
    bar = bars.add_task(escape(wait.what), total=wait.total or None)
    with bars, repeating(lambda: bars.update(bar, completed=wait.done), 0.2, 0.2):
        yield


@contextmanager
def _telling(console: Console, wait: Wait, patience: float, every: float) -> Iterator[None]:
    def tell() -> None:
        console.print(wait.describe(), style="dim", highlight=False, markup=False, soft_wrap=True)

    if patience <= 0:
        tell()
    with repeating(tell, patience or every, every):
        yield


@contextmanager
def repeating(
    call: Callable[[], object], first: float, then: float, thread_name: str = "waiting"
) -> Iterator[None]:
    """Call from a thread of its own, after `first` seconds and then every `then`, until the block
    is over."""
    over = threading.Event()

    def repeat() -> None:
        pause = first
        while not over.wait(pause):
            call()
            pause = then

    thread = threading.Thread(target=repeat, name=thread_name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
