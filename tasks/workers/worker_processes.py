"""Initializers of worker processes: exit with the parent, and handle signals."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.queues
import os
import signal
import sys
import threading


def exit_with_parent() -> None:
    """Initializer of a `multiprocessing` worker: it exits with its parent, and not before.

    A terminal's Ctrl-C reaches the worker too, but the parent decides when the worker ends. A
    worker that waits for work would not notice that the parent was killed.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def ignore_sigterm(_worker: int) -> None:
    """Initializer of a worker that makes training samples: as `exit_with_parent`, and it ignores
    SIGTERM, which schedulers send to all processes: the parent needs the worker until the end of
    its iteration."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    exit_with_parent()
    _exit_on_send_errors()


def _exit_on_send_errors() -> None:
    """Exit if a batch can't be sent, for instance because shared memory is full.

    By default the sending thread only prints the error, and the parent waits for the batch for
    ever; the exit of a worker it notices.
    """

    def end(error: BaseException, _batch: object) -> None:
        print(f"A batch can't be sent to the training: {error}", file=sys.stderr, flush=True)
        os._exit(1)

    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(end)  # type: ignore[attr-defined]


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
