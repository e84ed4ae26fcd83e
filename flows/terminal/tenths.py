"""Progress of a training on the terminal: a bar, and a line for every tenth.

Without a bar, a line says at once that the training runs, and further lines show its progress.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

from rich.console import Console
from rich.progress import Progress

from flows.terminal.waiting import shows_bars, waiting_for

_LINES: Final = 10

Show = Callable[[float, str, str], None]


@contextmanager
def showing_tenths(console: Console, bars: Progress) -> Iterator[Show]:
    """Show a training's progress while the block runs.

    Yields:
        a function to call after each batch with the fraction that is done (0..1), the bar's title,
        and the line that is printed if another tenth is reached.
    """
    lines = 0
    said = nullcontext() if shows_bars(console) else waiting_for(console, "training", patience=0)
    with bars, said as wait:
        bar = bars.add_task("training", total=1.0)

        def show(done: float, description: str, line: str) -> None:
            nonlocal lines
            bars.update(bar, completed=done, description=description)
            if wait is not None:
                wait.what = f"{description}, {done:.1%} done"
            reached = math.floor(done * _LINES)
            if reached not in (0, lines):
                console.print(line, highlight=False)
            lines = reached

        yield show
