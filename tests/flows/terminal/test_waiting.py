"""Notices while a command waits, on a terminal and in a pipe."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from flows.terminal.waiting import CountedProgress, Wait, shows_bars, waiting_for


class Lines(io.StringIO):
    """Sets `reached` once that many lines were written."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.reached = threading.Event()
        self._number = number

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.getvalue().count("\n") >= self._number:
            self.reached.set()
        return written


def test_a_pipe_hears_at_once_and_again_and_again():
    output = Lines(3)
    with waiting_for(Console(file=output), "Starting [it]", patience=0, every=0.001):
        assert output.getvalue().startswith("Starting [it] …\n")
        assert output.reached.wait(10.0)
    lines = output.getvalue().splitlines()
    assert {line.partition(" …")[0] for line in lines} == {"Starting [it]"}


def test_what_is_quick_is_not_spoken_of():
    output = io.StringIO()
    with waiting_for(Console(file=output), "looking", patience=60.0):
        pass
    assert output.getvalue() == ""


def test_what_is_slow_is():
    output = Lines(1)
    with waiting_for(Console(file=output), "looking", patience=0.001, every=60.0):
        assert output.reached.wait(10.0)
    assert output.getvalue() == "looking …\n"


def test_a_line_says_how_far_it_is_and_since_when():
    wait = Wait("voting", total=2000)
    assert wait.describe() == "voting …"
    wait.advance(120)
    wait._started -= 10.5
    assert wait.describe() == "voting … 120 of 2,000, 10 s"


@pytest.mark.parametrize("total", [0, 3])
def test_a_terminal_sees_what_and_since_when_and_keeps_nothing(total):
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100, _environ={"TERM": "xterm"})
    with waiting_for(console, "Starting [it]", total=total) as wait:
        wait.advance()
    shown = output.getvalue()
    assert "Starting [it] …" in shown
    assert "0:00:0" in shown
    assert shown.rstrip("\r").endswith("\x1b[2K"), "the last thing that is done wipes the line"


def test_an_error_ends_the_waiting():
    def fail() -> None:
        raise KeyError

    with (
        pytest.raises(KeyError),
        waiting_for(Console(file=io.StringIO()), "looking", every=0.001),
    ):
        fail()
    assert all(thread.name != "waiting" for thread in threading.enumerate())


def test_a_dumb_terminal_gets_lines():
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert not shows_bars(dumb)


def test_what_tasks_finish_or_reject_counts_as_steps():
    wait = Wait("reading", total=5)
    progress = CountedProgress(wait)
    progress.advance(2)
    progress.advance(rejected="truncated")
    assert wait.describe() == "reading … 3 of 5"
