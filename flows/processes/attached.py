"""`python -m flows.processes.attached MODULE …`: run a program that ends with its parent.

It ends however the parent ends, also by SIGKILL: the pipe to this process's standard input then
closes. A fork of the parent may hold the pipe open, so the parent's process id is checked as well.
"""

from __future__ import annotations

import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Final

from flows.processes import interruption

_PARENT: Final = "ZUTIS_SERVED_BY"
_LOOK_SECONDS: Final = 0.5
_UP_SECONDS: Final = 0.1
_GRACE: Final = 2.0


def start_attached(
    module: str,
    arguments: Sequence[str],
    *,
    output: IO[bytes] | int,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a module as a program that ends with this process. It runs in a session of its own, so
    that a terminal's Ctrl-C does not reach it.

    Args:
        module: such as `uvicorn`.
        arguments: of its command line.
        output: file for both of its streams, as `subprocess` takes it.
        environment: instead of this process's own.
        pass_fds: descriptors that it inherits.

    Raises:
        OSError: the program can't be started.
    """
    process = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
        [sys.executable, "-P", "-m", __name__, module, *arguments],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        env=environment,
        pass_fds=pass_fds,
        start_new_session=True,
    )
    interruption.finally_do(process.kill)
    return process


def comes_up(process: subprocess.Popen[bytes], is_up: Callable[[], bool], patience: float) -> bool:
    """Wait until an attached server is up; False if it has ended, or is not up after `patience`
    seconds."""
    until = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < until:
        if is_up():
            return True
        time.sleep(_UP_SECONDS)
    return False


def stop_attached(process: subprocess.Popen[bytes], patience: float) -> None:
    """End the program by SIGTERM, and after `patience` seconds by SIGKILL."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:  # open websockets can hold a server
        process.kill()
        process.wait()


def end_with(parent: int, pipe: int | None = None) -> None:
    """Start a thread that ends this process once its parent has ended.

    Args:
        parent: process id of the parent.
        pipe: descriptor of a pipe whose other end the parent holds, if there is one.
    """
    threading.Thread(target=_watch, args=(parent, pipe), name="parent", daemon=True).start()


def announce_to_children() -> None:
    """Tell this process's id to all programs that it starts, directly or through libraries."""
    os.environ[_PARENT] = str(os.getpid())


def end_with_announced_parent() -> None:
    """End this process with its parent, if the parent has announced itself.

    Flow runs do so, as the runs of a killed `zutis serve` would go on unsupervised.
    """
    parent = os.environ.get(_PARENT, "")
    if parent.isdecimal() and int(parent) != os.getpid():
        end_with(int(parent))


def _watch(parent: int, pipe: int | None) -> None:
    while os.getppid() == parent:
        if pipe is None:
            time.sleep(_LOOK_SECONDS)
        elif select.select([pipe], [], [], _LOOK_SECONDS)[0] and not os.read(pipe, 1):
            break
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(128 + signal.SIGTERM)


def _main() -> None:
    end_with(os.getppid(), sys.stdin.fileno())
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
