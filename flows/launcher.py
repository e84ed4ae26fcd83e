"""The entry point of `zutis`: shows a notice before slow imports.

The command line is some hundreds of modules, and a cold disk or a busy machine takes seconds to
read them. Nothing but the standard library's smallest modules is imported here.
"""

from __future__ import annotations

import sys

from flows.processes import interruption
from flows.terminal.loading import speaking_when_slow


def main() -> None:
    """Entry point."""
    interruption.listen()
    try:
        with speaking_when_slow(sys.stderr):
            from flows.cli import main as run_command_line
    except BaseException:
        if interruption.interrupted():
            interruption.end()
        raise
    run_command_line()
