"""Progress of stages: counted once, shown in the terminal, the log and the Prefect UI."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flows.execution.stages import UNITS
from flows.terminal.waiting import repeating, shows_bars, waiting_for
from tasks.stage import stopping

# Seconds until a stage's first line where there is no bar, and between its lines: a log of hours
# needs fewer of them than a test run of a minute.
_FIRST_LINE: Final = 1.0
_SHORTEST_PAUSE: Final = 10.0
_LONGEST_PAUSE: Final = 60.0


@dataclass
class StageProgress:
    """How far a stage is. Thread-safe: the parts of a stage report from their own threads.

    Attributes:
        stage: its name.
        total: items expected; 0 if unknown. For tars an estimate, which `done` may exceed.
        parts: number of parts; cached_parts: those that were published already.
        done: items finished; counts: named counters; rejects: items rejected, by reason.
        remark: the stage's current message.
        warnings: warnings for users, in order.
    """

    stage: str
    total: int
    parts: int
    cached_parts: int
    done: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    remark: str = ""
    warnings: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    finished: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, amount: int = 1, *, rejected: str = "", **counts: int) -> None:
        """Count finished items; raises `Stopped` if this process is to stop."""
        stopping.check()
        with self._lock:
            self.done += amount
            if rejected:
                self.rejects[rejected] += amount
            self.counts.update(counts)

    def tell(self, text: str) -> None:
        self.remark = text

    def warn(self, sentence: str) -> None:
        with self._lock:
            self.warnings.append(sentence)

    @property
    def seconds(self) -> float:
        return (self.finished or time.monotonic()) - self.started

    @property
    def rate(self) -> float:
        """Items a second since the stage began."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def fraction(self) -> float:
        if self.finished is not None:
            return 1.0
        return min(1.0, self.done / self.total) if self.total else 0.0

    def describe(self) -> str:
        """One line: the stage, and how far it is."""
        return f"{self.stage}: {self.how_far()}"

    def how_far(self) -> str:
        """Done of total, rate, time left, cached parts, rejects, without the stage's name."""
        if self.cached_parts == self.parts:
            return f"cached{f', {self.parts} parts' if self.parts > 1 else ''}"
        unit = UNITS[self.stage]
        text = f"{self.done:,}"
        if self.total and self.finished is None:
            text += f" of {max(self.total, self.done):,}"
        text += f" {unit}"
        if self.done and self.seconds >= 0.5:
            text += f", {self.rate:,.1f}/s"
        if self.done and self.total > self.done and self.finished is None:
            text += f", {_duration((self.total - self.done) / self.rate)} left"
        if self.finished is not None:
            text += f", {_duration(self.seconds)}"
        if self.cached_parts:
            text += f", {self.cached_parts} of {self.parts} parts cached"
        for name, count in sorted(self.counts.items()):
            if count:
                text += f", {count:,} {name}"
        text += self._describe_rejects()
        return f"{text}; {self.remark}" if self.remark else text

    def _describe_rejects(self) -> str:
        with self._lock:
            rejects = sorted(self.rejects.items())
        if not rejects:
            return ""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejects)
        return f", {sum(count for _, count in rejects):,} rejected ({reasons})"


class Watcher(Protocol):
    """Somewhere to show the progress of stages."""

    def begin(self, progress: StageProgress) -> None: ...

    def refresh(self, progress: StageProgress) -> None:
        """Called now and then while the stage runs."""

    def end(self, progress: StageProgress) -> None: ...


class SilentWatcher:
    """Shows nothing."""

    def begin(self, progress: StageProgress) -> None:
        return None

    def refresh(self, progress: StageProgress) -> None:
        return None

    def end(self, progress: StageProgress) -> None:
        return None


class TerminalWatcher:
    """A bar for the stage that runs, and a line for each that has ended.

    Where the output is no terminal, lines now and then take the place of the bar.

    Args:
        console: where.
        awaiting: notice that is shown until the first stage begins, such as the start of a server;
            empty for none.
    """

    def __init__(self, console: Console, awaiting: str = "") -> None:
        self._bars = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[remark]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._console = console
        self._awaiting = awaiting
        self._wait = ExitStack()
        self._bar: dict[str, TaskID] = {}
        self._next_line: dict[str, float] = {}
        self._warned: dict[str, int] = {}

    def __enter__(self) -> TerminalWatcher:
        if self._awaiting:
            self._wait.enter_context(waiting_for(self._console, self._awaiting, patience=0))
        else:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wait.close()
        self._bars.stop()

    def begin(self, progress: StageProgress) -> None:
        self._wait.close()
        self._bars.start()  # a second time it does nothing
        self._next_line[progress.stage] = _FIRST_LINE
        self._bar[progress.stage] = self._bars.add_task(
            progress.stage, total=progress.total or None, rate="", remark=""
        )
        self._warned[progress.stage] = 0

    def refresh(self, progress: StageProgress) -> None:
        bar = self._bar[progress.stage]
        total = max(progress.total, progress.done) or None
        rate = f"{progress.rate:,.1f} {UNITS[progress.stage]}/s" if progress.done else ""
        self._bars.update(
            bar, completed=progress.done, total=total, rate=rate, remark=escape(progress.remark)
        )
        self._print_warnings(progress)
        if not shows_bars(self._console):
            self._print_now_and_then(progress)

    def end(self, progress: StageProgress) -> None:
        self._print_warnings(progress)
        self._bars.remove_task(self._bar.pop(progress.stage))
        self._console.print(progress.describe(), highlight=False, markup=False)

    def _print_now_and_then(self, progress: StageProgress) -> None:
        seconds = progress.seconds
        if seconds < self._next_line[progress.stage]:
            return
        pause = min(max(_SHORTEST_PAUSE, seconds / 2), _LONGEST_PAUSE)
        self._next_line[progress.stage] = seconds + pause
        self._console.print(
            progress.describe(), style="dim", highlight=False, markup=False, soft_wrap=True
        )

    def _print_warnings(self, progress: StageProgress) -> None:
        told = self._warned[progress.stage]
        for sentence in progress.warnings[told:]:
            self._console.print(f"Warning: {sentence}", style="yellow", markup=False)
        self._warned[progress.stage] = len(progress.warnings)


class Watchers:
    """Several watchers as one."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def begin(self, progress: StageProgress) -> None:
        for watcher in self._watchers:
            watcher.begin(progress)

    def refresh(self, progress: StageProgress) -> None:
        for watcher in self._watchers:
            watcher.refresh(progress)

    def end(self, progress: StageProgress) -> None:
        for watcher in self._watchers:
            watcher.end(progress)


@contextmanager
def refreshing(progress: StageProgress, watcher: Watcher, seconds: float = 1.0) -> Iterator[None]:
    """Refresh the watcher from a thread while the block runs in this one."""
    name = f"progress-{progress.stage}"
    with repeating(lambda: watcher.refresh(progress), seconds, seconds, name):
        yield


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
