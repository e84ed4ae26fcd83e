"""Signals to a command: one line, the exit code, a quick end, and no surviving process."""

from __future__ import annotations

import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

from flows.processes import interruption
from tests.support.processes.terminals import CTRL_C, Terminal

pytestmark = pytest.mark.slow

KEPT = "what is finished is kept, and the same command goes on from here."
READY = "at work"

# The work of a command when a signal comes. None ends by itself.
WAITING = "print('at work', flush=True); time.sleep(600)"
IN_A_THREAD = """
def work():
    print('at work', flush=True)
    time.sleep(600)
with concurrent.futures.ThreadPoolExecutor() as pool:  # which Python waits for, at its end, too
    pool.submit(work).result()
"""
IN_A_LIBRARY = """
libc = ctypes.CDLL(None)
print('at work', flush=True)
while True:  # as a library does that lets no Python run in the main thread
    libc.usleep(600_000_000)
"""
BREAKING = """
try:
    print('at work', flush=True)
    time.sleep(600)
except BaseException:
    threading.Thread(target=lambda: 1 / 0).start()
    raise RuntimeError('the server has gone') from None
"""
SWALLOWING = """
print('at work', flush=True)
while True:
    try:
        time.sleep(600)
    except BaseException:
        print('not now', flush=True)
"""
FINISHING = """
def notice(*_):
    print('keeping a checkpoint', flush=True)
    time.sleep(4.0)  # longer than the grace
    print('kept', flush=True)
    raise ZutisError('Training stopped after iteration 3; the same command goes on.')
signal.signal(signal.SIGINT, notice)
with stopping.finishing():
    print('at work', flush=True)
    time.sleep(600)
"""


@pytest.fixture
def start(tmp_path: Path):
    """Start the command line with this work in place of a command."""
    started: list[Terminal] = []

    def begin(work: str, *prefix: str) -> Terminal:
        code = (
            "import concurrent.futures, ctypes, os, signal, threading, time\n"
            "from flows import cli, launcher\n"
            "from tasks.stage import stopping\n"
            "from storage.errors.exceptions import ZutisError\n"
            f"def run_command_line():\n{textwrap.indent(work.strip(), '    ')}\n"
            "cli.run_command_line = run_command_line\n"
            "launcher.main()\n"
        )
        path = tmp_path / "command.py"
        path.write_text(code)
        started.append(Terminal([*prefix, sys.executable, str(path)], tmp_path))
        return started[-1]

    yield begin
    for terminal in started:
        terminal.__exit__(None, None, None)


@pytest.mark.parametrize(
    "work", [WAITING, IN_A_THREAD, IN_A_LIBRARY, BREAKING, SWALLOWING],
    ids=["waiting", "in a thread", "in a library", "breaking", "swallowing"],
)  # fmt: skip
def test_ctrl_c_ends_it_with_one_line(start, work):
    terminal = start(work)
    terminal.wait_for(READY)
    terminal.press(CTRL_C)
    assert terminal.wait() == 130
    lines = terminal.text.replace("^C", "").splitlines()
    said = [line for line in lines if line not in ("", "not now")]
    assert said == [READY, f"Interrupted: {KEPT}"]
    assert terminal.survivors() == []


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGTERM, 143, f"Ended by SIGTERM: {KEPT}"),
        (signal.SIGHUP, 129, f"Ended by SIGHUP: {KEPT}"),
        (signal.SIGINT, 130, f"Interrupted: {KEPT}"),
    ],
)
def test_signals_have_their_codes(start, number, code, line):
    terminal = start(IN_A_THREAD)
    terminal.wait_for(READY)
    terminal.signal(number)
    assert terminal.wait() == code
    assert terminal.text.split("\n")[-2].strip() == line or line in terminal.text.splitlines()


def test_what_is_being_kept_is_waited_for_and_told(start):
    terminal = start(FINISHING)
    terminal.wait_for(READY)
    terminal.press(CTRL_C)
    assert terminal.wait() == 130
    assert "kept" in terminal.text.splitlines()
    told = "Interrupted: Training stopped after iteration 3; the same command goes on."
    assert told in terminal.text.splitlines()


def test_a_second_ctrl_c_ends_it_at_once(start):
    terminal = start(FINISHING)
    terminal.wait_for(READY)
    terminal.press(CTRL_C)
    terminal.wait_for("keeping a checkpoint")
    time.sleep(2 * interruption.ONE_KEY_PRESS)  # a signal right after the first counts as the same
    terminal.press(CTRL_C)
    assert terminal.wait() == 130
    lines = terminal.text.replace("^C", "").splitlines()
    assert "kept" not in lines
    assert f"Interrupted: {KEPT}" in lines


def test_nohup_has_its_way(start):
    work = """
    print(signal.getsignal(signal.SIGHUP).name, flush=True)
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0.5)
    print('done')
    """
    terminal = start(textwrap.dedent(work), "/bin/sh", "-c", 'trap "" HUP; exec "$0" "$@"')
    assert terminal.wait() == 0
    assert "SIG_IGN\ndone" in terminal.text.replace("\n\n", "\n")


def test_an_interruption_while_the_program_loads_is_one_line(tmp_path):
    code = (
        "import sys, time\n"
        "from flows import launcher\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'flows.cli':\n"
        "            print('at work', flush=True); time.sleep(600)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "launcher.main()\n"
    )
    (tmp_path / "command.py").write_text(code)
    with Terminal([sys.executable, str(tmp_path / "command.py")], tmp_path) as terminal:
        terminal.wait_for(READY)
        terminal.press(CTRL_C)
        assert terminal.wait() == 130
        assert f"Interrupted: {KEPT}" in terminal.text
        assert "Traceback" not in terminal.text
