"""`zutis` shows that it is loading before the command line's modules are imported."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flows.launcher import speaking_when_slow

ROOT = Path(__file__).parents[2]


class Output(io.StringIO):
    """A terminal or a pipe; the first output sets `reached`."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.reached = threading.Event()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        written = super().write(text)
        self.reached.set()
        return written


@pytest.fixture(autouse=True)
def first_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def test_a_slow_start_is_spoken_of_in_a_line():
    output = Output()
    with speaking_when_slow(output, patience=0.001):
        assert output.reached.wait(10.0)
    assert output.getvalue() == "Loading the program …\n"


def test_a_terminal_forgets_it():
    output = Output(terminal=True)
    with speaking_when_slow(output, patience=0.001):
        assert output.reached.wait(10.0)
    assert output.getvalue() == "Loading the program …\r\x1b[K"


def test_a_dumb_terminal_gets_a_line(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    output = Output(terminal=True)
    with speaking_when_slow(output, patience=0.001):
        assert output.reached.wait(10.0)
    assert output.getvalue() == "Loading the program …\n"


def test_a_quick_start_is_not():
    output = Output()
    with speaking_when_slow(output, patience=60.0):
        pass
    assert output.getvalue() == ""


def test_of_several_processes_the_others_are_silent(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    output = Output()
    with speaking_when_slow(output, patience=0.0):
        assert not [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
    assert output.getvalue() == ""


def test_an_error_ends_it():
    output = Output()
    with pytest.raises(ImportError), speaking_when_slow(output, patience=60.0):
        raise ImportError
    assert not [one for one in threading.enumerate() if isinstance(one, threading.Timer)]


@pytest.mark.parametrize(
    "start", [["-m", "flows"], ["-c", "from flows.launcher import main; main()"]]
)
def test_output_for_other_programs_stays_whole(start, tmp_path):
    done = subprocess.run(
        [sys.executable, *start, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=False, env=os.environ | {"COLUMNS": "100"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Loading the program" not in done.stdout
