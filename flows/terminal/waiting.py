"""Notices of what a command waits for: a counter on a terminal, lines elsewhere.

Whoever reads the output of a pipe or the log of a CI run sees no bar and no spinner. There a line
says what is being waited for, and one every ten seconds how long it has been, so that work and
hanging can be told apart.
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
"""Seconds after which something that is mostly quick is spoken of."""

_EVERY: Final = 10.0


class Wait:
    """Something that takes a while. Thread-safe.

    Attributes:
        what: for people, such as `reading images`.
        total: how many steps it has; 0 where nobody knows.
    """

    def __init__(self, what: str, total: int = 0) -> None:
        self.what, self.total = what, total
        self._done = 0
        self._started = time.monotonic()
        self._lock = threading.Lock()

    @property
    def done(self) -> int:
        """Steps that are over."""
        return self._done

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            self._done += amount

    def describe(self) -> str:
        """One line: what is waited for, how far it is, and since when."""
        seconds = int(time.monotonic() - self._started)
        facts = [f"{self._done:,} of {self.total:,}"] if self.total and self._done else []
        facts += [f"{seconds:,} s"] if seconds else []
        return f"{self.what} …{' ' if facts else ''}{', '.join(facts)}"


class CountedProgress(SilentProgress):
    """What tasks tell of their progress, as the steps of a wait."""

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
    """Say what is being waited for while the block runs.

    Args:
        console: where. A terminal shows a spinner and the time at once, and forgets them in the
            end; anything else gets lines that stay.
        what: for people; no markup.
        total: steps, of which the block tells with `Wait.advance`; 0 where nobody knows.
        patience: seconds before the first line; 0 for what is known to take long.
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
    """Whether what is drawn there can be drawn over."""
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
