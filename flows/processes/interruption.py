"""Ctrl-C, SIGTERM and SIGHUP end a command with one line and an exit code.

The first signal stops the main thread by an exception, and work in other threads by
`tasks.stage.stopping`. Work that has not ended after the time of grace is killed, which the store
survives; a second Ctrl-C kills it at once. A separate thread receives the signals, since the main
one may be in a library that runs no Python code for minutes.

Only the standard library's small modules are imported here, as the launcher uses this module before
anything else is loaded.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn

from tasks.stage import stopping

GRACE: Final = 2.0
"""Seconds between a signal and the end, unless something is being finished."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE_KEY_PRESS: Final = 0.3
"""Seconds in which a second signal counts as the first, which our parent process may repeat."""


class Interrupted(KeyboardInterrupt):
    """A signal came."""


class _Heard:
    """The signal that ends this process, and the functions to call at the end."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.first: int | None = None
        self.when = 0.0
        self.raised = False
        self.said = False
        self.listening = False
        self.ended_well = False
        self.last_acts: list[Callable[[], object]] = []


_heard = _Heard()


def listen() -> None:
    """From here on signals end this process as described above. Main thread only.

    Signals that are ignored stay ignored, as under `nohup`.
    """
    if _heard.listening:
        return
    _heard.listening = True
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    threading.Thread(target=_hear, args=(reading,), name="signals", daemon=True).start()
    _silence_threads()


def interrupted() -> bool:
    """Whether a signal has come."""
    return _heard.first is not None


def exit_code() -> int:
    """The shell's exit code for the signal that came: 130, 143 or 129."""
    return 128 + (_heard.first or signal.SIGINT)


def ended_well() -> None:
    """Note that the command has ended in time: only a second Ctrl-C interrupts its last steps."""
    _heard.ended_well = True


def finally_do(act: Callable[[], object]) -> None:
    """Call a function at the end of a process that a signal ends; it must be quick."""
    _heard.last_acts.append(act)


def say(sentence: str = "") -> None:
    """Print once that a signal ended the command.

    Args:
        sentence: replaces the default sentence, such as one on what was kept.
    """
    with _heard.lock:
        if _heard.said:
            return
        _heard.said = True
    number = _heard.first or signal.SIGINT
    cause = "Interrupted" if number == signal.SIGINT else f"Ended by {signal.Signals(number).name}"
    kept = sentence or "what is finished is kept, and the same command goes on from here."
    # Not through Python's streams: the main thread may hold their locks.
    _write(2, f"\r\x1b[K{cause}: {kept}\n" if os.isatty(2) else f"{cause}: {kept}\n")
    for stream in (1, 2):
        if os.isatty(stream):
            _write(stream, "\x1b[?25h")  # the cursor, which bars have hidden


def end() -> NoReturn:
    """End this process and its children at once."""
    for act in _heard.last_acts:
        with contextlib.suppress(Exception):
            act()
    say()
    os._exit(exit_code())


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Called in the main thread as soon as it runs Python code again."""
    _note_first(number)
    if not _heard.raised:
        _heard.raised = True
        raise Interrupted


def _hear(reading: int) -> None:
    """Runs in a thread of its own, which receives signals at once."""
    while byte := os.read(reading, 1):
        number = byte[0]
        if number not in _SIGNALS or _note_first(number):
            continue
        again = time.monotonic() - _heard.when > ONE_KEY_PRESS
        if number == signal.SIGINT and again and not _has_companions():
            end()


def _note_first(number: int) -> bool:
    """Record a signal; returns whether it is the first."""
    with _heard.lock:
        if _heard.first is not None:
            return False
        _heard.first, _heard.when = number, time.monotonic()
    stopping.stop()
    threading.Thread(target=_end_after_grace, name="grace", daemon=True).start()
    return True


def _has_companions() -> bool:
    """Whether torchrun has started this process, and forwards its own signals to it."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def _end_after_grace() -> None:
    time.sleep(GRACE)
    while stopping.is_finishing():
        time.sleep(0.05)
    if not _heard.ended_well:
        end()


def _write(stream: int, text: str) -> None:
    with contextlib.suppress(OSError):  # the reader is gone
        os.write(stream, text.encode())


def _silence_threads() -> None:
    """Silence errors in threads that fail because the process ends."""
    tell, tell_unraisable = threading.excepthook, sys.unraisablehook

    def threads(given: threading.ExceptHookArgs) -> None:
        if not interrupted():
            tell(given)

    def unraisable(given: sys.UnraisableHookArgs) -> None:
        if not interrupted():
            tell_unraisable(given)

    threading.excepthook, sys.unraisablehook = threads, unraisable
