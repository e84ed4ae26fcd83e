"""Commands that are forked off a process which has imported what takes longest.

A command of ours that loads a network spends ten seconds of processor time on imports before it
does anything. Here a process, one for all of a test run's workers, imports those libraries once;
each command is a copy of it, and goes on as `python -c` does: with its own environment, folder and
streams, and with all of our own modules and Prefect's still to be imported. What is decided when
those libraries are imported (threads, the hub's variables) is the same for all of them; whoever
tests that starts a process of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.support.processes.shared_by_workers import leader, one_worker_at_a_time, shared_folder

ZUTIS = "from flows.launcher import main; main()"
"""The program that `zutis` is."""

_LIBRARIES = (
    "torch", "torch.utils.data", "torch.utils.tensorboard", "torch.optim", "torch._dynamo",
    "torchvision", "open_clip", "timm", "transformers", "faiss", "scipy.ndimage", "numba",
    "webdataset", "safetensors.torch", "pyarrow.parquet", "pandas", "fsspec", "pydantic_settings",
    "httpx", "websockets", "griffe", "pendulum", "opentelemetry.trace", "prometheus_client",
    "anyio", "jsonschema", "pathspec", "rich.progress", "rich.table", "cyclopts",
)  # fmt: skip
_START_SECONDS = 240.0
_LOOK_SECONDS = 0.05


class ForkedCommand:
    """A running command, with what the tests use of `subprocess.Popen`.

    Args:
        code: of the program, as `python -c` takes it.
        arguments: its `sys.argv[1:]`.
        folder: where it runs.
        environment: all of its variables.
        streams: descriptors that become its standard input, output and error.
        terminal: whether they are a terminal, which the command is to lead a session on.
        session: whether it leads a session, without a terminal.

    Attributes:
        pid: its number.
        returncode: None while it runs.
    """

    def __init__(
        self,
        code: str,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        streams: tuple[int, int, int],
        *,
        terminal: bool = False,
        session: bool = False,
    ) -> None:
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_nursery())
        request = {
            "code": code, "arguments": list(arguments), "folder": str(folder),
            "environment": dict(environment), "terminal": terminal, "session": session or terminal,
        }  # fmt: skip
        socket.send_fds(self._connection, [b"?"], list(streams))
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        self.pid = self._answer()

    def poll(self) -> int | None:
        """The exit code as `wait` gives it, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; negative: the signal.

        Raises:
            subprocess.TimeoutExpired: it is still running.
        """
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked command", timeout or 0.0)
            self.returncode = self._answer()
            self._connection.close()
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _answer(self) -> int:
        """A line, without what comes after it: `select` has to see that."""
        line = b""
        while not line.endswith(b"\n"):
            piece = self._connection.recv(1)
            assert piece, "the process that forks has ended"
            line += piece
        return int(line)


def run_zutis(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    timeout: float,
    code: str = ZUTIS,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` does with captured output.

    Raises:
        AssertionError: it was killed after `timeout` seconds.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        with Path(os.devnull).open("rb") as nothing:
            streams = (nothing.fileno(), output.fileno(), errors.fileno())
            command = ForkedCommand(code, arguments, folder, environment, streams)
        try:
            returncode = command.wait(timeout)
        except subprocess.TimeoutExpired:
            command.kill()
            raise AssertionError(
                f"not done in {timeout} s: {_text(output)}{_text(errors)}"
            ) from None
        return subprocess.CompletedProcess(
            ["zutis", *arguments], returncode, _text(output), _text(errors)
        )


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


# --- the process that forks -------------------------------------------------------------------


def _nursery() -> str:
    """Address of the test run's process that forks, which is started if it is not there.

    It ends with the process that leads the test run.
    """
    address = shared_folder() / "nursery"
    with one_worker_at_a_time("nursery"):
        if not address.exists():
            _start(address)
    return str(address)


def _start(address: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")
    }
    environment["OMP_NUM_THREADS"] = "1"
    with address.with_name("nursery-log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, str(address), str(leader())],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
            start_new_session=True,
        )  # fmt: skip
    threading.Thread(target=process.wait, daemon=True).start()
    until = time.monotonic() + _START_SECONDS
    while not address.exists():
        assert process.poll() is None, address.with_name("nursery-log").read_text()
        assert time.monotonic() < until, "the process that forks does not start"
        time.sleep(_LOOK_SECONDS)


def _serve(address: Path, leading: int) -> None:
    import importlib
    import selectors
    import shutil

    for library in _LIBRARIES:
        importlib.import_module(library)
    listener = socket.socket(socket.AF_UNIX)
    beside = address.with_name("beside")
    listener.bind(str(beside))
    listener.listen(16)
    beside.rename(address)
    running: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while _is_alive(leading):
            if selector.select(_LOOK_SECONDS if running else 1.0):
                connection, _ = listener.accept()
                pid = _fork(connection, [listener, *running.values()])
                running[pid] = connection
                connection.sendall(f"{pid}\n".encode())
            _tell_ends(running)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(address.parent, ignore_errors=True)  # the leader may have been killed


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _tell_ends(running: dict[int, socket.socket]) -> None:
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            connection = running.pop(pid)
            with contextlib.suppress(OSError):  # nobody may wait for it any more
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            connection.close()


def _fork(connection: socket.socket, others: Sequence[socket.socket]) -> int:
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("r") as lines:
        request = json.loads(lines.readline())
    pid = os.fork()
    if pid:
        for stream in streams:
            os.close(stream)
        return pid
    for each in (connection, *others):
        each.close()
    _become(request, streams)
    sys.exit(0)


def _become(request: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Go on as the command: nothing that was read from this process's environment is kept but what
    the libraries have taken."""
    if request["session"]:
        os.setsid()
    if request["terminal"]:
        fcntl.ioctl(streams[0], _controlling_terminal(), 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, max(streams) + 1)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["-c", *request["arguments"]]
    places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = ["", *(place for place in places if place)]
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.flush() if stream.writable() else None
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, buffering=1 if os.isatty(number) else -1, closefd=False)  # noqa: SIM115
        for number, mode in enumerate("rww")
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    main = type(sys)("__main__")
    sys.modules["__main__"] = main
    exec(compile(request["code"], "<string>", "exec"), main.__dict__)


def _controlling_terminal() -> int:
    import termios

    return termios.TIOCSCTTY


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
