"""Programs on a pseudo-terminal: their output, key presses, and surviving processes."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.support.processes.nursery import ForkedCommand
from tests.support.processes.process_table import alive_with

CTRL_C = "\x03"

_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_PATIENCE = 240.0  # a loaded machine takes a minute to start Prefect


class Terminal:
    """A program that leads a session on a terminal of its own, as a shell's foreground job does.

    Args:
        command: program and arguments.
        environment: its variables, instead of this process's.
        folder: where it runs.
        forked: the program is `PYTHON -c CODE`, and is forked from a process that has imported
            the libraries; see `nursery`.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        forked: bool = False,
    ) -> None:
        self._mark = uuid.uuid4().hex
        self._written = b""
        self._code: int | None = None
        self._forked: ForkedCommand | None = None
        ours = {"TERM": "xterm", "COLUMNS": "200", "TERMINAL_TEST": self._mark}
        whole = {**(os.environ if environment is None else environment), **ours}
        if forked:
            self._fork(command, folder, whole)
            return
        self.process, self._terminal = pty.fork()
        if self.process == 0:
            try:
                os.chdir(folder)
                os.execve(command[0], list(command), whole)
            finally:
                os._exit(127)

    def _fork(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        _, option, code, *arguments = command
        assert option == "-c"
        self._terminal, other = pty.openpty()
        self._forked = ForkedCommand(
            code, arguments, folder, environment, (other, other, other), terminal=True
        )
        self.process = self._forked.pid
        os.close(other)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in [*self._processes(), self.process]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.wait()
        os.close(self._terminal)

    @property
    def text(self) -> str:
        """All output so far, without control sequences for cursor and colours."""
        return _CONTROLS.sub("", self._written.decode(errors="replace")).replace("\r", "\n")

    def wait_for(self, text: str) -> None:
        """Wait until the program has written the text."""
        until = time.monotonic() + _PATIENCE
        while text not in self.text:
            assert self._read(), f"it ended without {text!r}: {self.text}"
            assert time.monotonic() < until, f"no {text!r} in: {self.text}"

    def wait_for_child(self, part_of_command: str) -> int:
        """Wait until the program has a child with this in its command line; the child's id."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            for process in self._processes():
                with contextlib.suppress(OSError):
                    if part_of_command in Path(f"/proc/{process}/cmdline").read_text():
                        return process
            self._read(0.01)
        raise AssertionError(f"no process with {part_of_command!r}; {self.text}")

    def press(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program, not to its children."""
        os.kill(self.process, number)

    def wait(self) -> int:
        """Wait for the program's end; its exit code, negative for the signal that killed it."""
        while self._read():
            pass
        if self._code is None and self._forked:
            self._code = self._forked.wait()
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        return self._code

    def survivors(self, seconds: float = 10.0) -> list[str]:
        """Command lines of its descendants that have not ended within `seconds`."""
        until = time.monotonic() + seconds
        while (found := self._processes()) and time.monotonic() < until:
            time.sleep(0.05)
        return [Path(f"/proc/{process}/cmdline").read_text() for process in found]

    def _read(self, seconds: float = 0.1) -> bool:
        """Read available output; returns whether more can come."""
        if not select.select([self._terminal], [], [], seconds)[0]:
            return True
        try:
            piece = os.read(self._terminal, 65536)
        except OSError:  # Linux's error where the other end is closed everywhere
            return False
        self._written += piece
        return bool(piece)

    def _processes(self) -> list[int]:
        return alive_with("TERMINAL_TEST", self._mark)
