"""Processes that work for another one, and have no reason to live without it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.queues
import os
import signal
import sys
import threading


def exit_with_parent() -> None:
    """Initializer of a `multiprocessing` worker: it ends with its parent, and not before.

    A terminal's Ctrl-C reaches it, too, but it is the parent that has to say what becomes of it.
    A worker that waits for work would not notice that the parent was killed.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def ignore_sigterm(_worker: int) -> None:
    """Initializer of a worker that makes training samples: as above, and a scheduler's SIGTERM to
    all processes leaves it be. The parent needs it until its iteration is over."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    exit_with_parent()
    _end_over_what_cannot_be_handed_over()


def _end_over_what_cannot_be_handed_over() -> None:
    """A batch that finds no room in shared memory is printed and forgotten by the thread that was
    to send it, and the parent waits for it for ever. The death of a worker it notices."""

    def end(error: BaseException, _batch: object) -> None:
        print(f"A batch can't be handed over: {error}", file=sys.stderr, flush=True)
        os._exit(1)

    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(end)  # type: ignore[attr-defined]


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
