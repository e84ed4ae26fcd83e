"""`python -m flows` with scheduled faults and a log of events, for the fault tests.

`FAULT_DIARY` names a file to which every event is appended before it happens, one JSON object a
line: `begin` and `end` of a stage's run, `step` (items done), and on the store's files `open` (for
writing), `write`, `sync`, `link`, `rename`, `remove`, `mkdir`, `rmdir`.

`FAULT_KILL` is `STAGE:KIND:N`: at the N-th event of a kind inside a stage the whole process group
gets SIGKILL; for a write, in the middle of it.

With `FAULT_CLOCK` set, Python's clock jumps by an hour, a day or a year, forwards or backwards, at
every twentieth call.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FILE_EVENTS = {
    "os.link": "link",
    "os.rename": "rename",
    "os.remove": "remove",
    "os.mkdir": "mkdir",
    "os.rmdir": "rmdir",
}
_JUMPS = (0, 3_600, -86_400, 31_536_000, -31_536_000, 86_400)
_LOOKS_BETWEEN_JUMPS = 20
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Diary:
    """Counts and logs events by stage and, at the chosen one, kills the process group."""

    def __init__(self, path: str, kill: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._fatal = kill
        self._counts: Counter[tuple[str, str]] = Counter()
        self._stage = threading.local()
        self._lock = threading.RLock()

    def note(
        self, kind: str, what: str, *, amount: int = 1, dying: Callable[[], Any] = lambda: None
    ) -> None:
        """Log an event that is about to happen; `dying` does half of it before the kill."""
        stage = getattr(self._stage, "name", "")
        with self._lock:
            self._counts[stage, kind] += 1
            fatal = f"{stage}:{kind}:{self._counts[stage, kind]}" == self._fatal
            row = {"stage": stage, "kind": kind, "what": what, "amount": amount}
            os.write(self._file, json.dumps(row | {"fatal": fatal}).encode() + b"\n")
            if fatal:
                dying()
                os.killpg(0, signal.SIGKILL)

    def inside(self, stage: str, key: str, run: Callable[[], Any]) -> Any:
        """Run a stage, and count events as its own."""
        before = getattr(self._stage, "name", "")
        self._stage.name = stage
        try:
            self.note("begin", key)
            made = run()
            self.note("end", key)
            return made
        finally:
            self._stage.name = before


def watch_files(diary: Diary, store: str) -> None:
    """Log every operation on files of the store before it happens."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & _WRITING:
                return
            kind = "open"
        elif event in _FILE_EVENTS:
            # The new name of a link or rename matters; it comes second.
            path = arguments[1 if event in ("os.link", "os.rename") else 0]
            kind = _FILE_EVENTS[event]
        else:
            return
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if isinstance(path, str | Path) and str(path).startswith(store):
            diary.note(kind, str(path).removeprefix(store))

    sys.addaudithook(hook)


def watch_writes(diary: Diary) -> None:
    """Log writes and syncs; a kill in a write leaves half of it in the file."""
    from storage.files.hashing_writer import HashingWriter

    write, sync = HashingWriter.write, os.fsync

    def noted_write(self: HashingWriter, data: Any) -> int:
        def write_half() -> None:
            view = memoryview(data).cast("B")
            self._raw.write(view[: len(view) // 2])
            self._raw.flush()

        diary.note("write", self._name, dying=write_half)
        return write(self, data)

    def noted_sync(descriptor: int) -> None:
        diary.note("sync", "")
        sync(descriptor)

    HashingWriter.write = noted_write  # type: ignore[method-assign]
    os.fsync = noted_sync


def watch_stages(diary: Diary) -> None:
    """Log when stages run and what they finish."""
    from flows.execution import executors
    from flows.execution.progress import StageProgress

    run_stage, advance = executors.run_stage, StageProgress.advance

    def noted_run(stage: str, config: Any, inputs: Any, store: Any, progress: Any = None) -> Any:
        locate = getattr(executors.STAGES[stage], "locate", None)
        key = str(locate(config, inputs, store)) if locate else ""
        return diary.inside(stage, key, lambda: run_stage(stage, config, inputs, store, progress))

    def noted_advance(self: StageProgress, amount: int = 1, **others: Any) -> None:
        diary.note("step", self.stage, amount=amount)
        advance(self, amount, **others)

    for module in ("flows.execution.executors", "flows.execution.stage_task"):
        if module in sys.modules:  # modules that are imported later get the wrapped function
            vars(sys.modules[module])["run_stage"] = noted_run
    StageProgress.advance = noted_advance  # type: ignore[method-assign]


def let_the_clock_jump() -> None:
    """Only `time.time` and `time.time_ns`: durations are measured with clocks that never jump."""
    now, now_ns = time.time, time.time_ns
    looks = itertools.count()

    def offset() -> int:
        return _JUMPS[next(looks) // _LOOKS_BETWEEN_JUMPS % len(_JUMPS)]

    time.time = lambda: now() + offset()
    time.time_ns = lambda: now_ns() + offset() * 10**9


def main() -> None:
    if os.environ.get("FAULT_CLOCK"):
        let_the_clock_jump()
    diary = Diary(os.environ["FAULT_DIARY"], os.environ.get("FAULT_KILL", ""))
    store = sys.argv[sys.argv.index("--store") + 1]
    watch_files(diary, store + "/")
    watch_writes(diary)
    watch_stages(diary)
    from flows.cli import main as zutis

    zutis()


if __name__ == "__main__":
    main()
