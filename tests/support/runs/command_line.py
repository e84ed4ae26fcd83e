"""Commands of `zutis` in this process: what they print, or the error that a user would be told."""

from __future__ import annotations

import contextlib
import io

from flows.cli import run_command_line


def said(*words: object) -> str:
    """What a command writes to standard output.

    Raises:
        ZutisError, CycloptsError: as the command does.
    """
    heard = io.StringIO()
    with contextlib.redirect_stdout(heard):
        run_command_line([str(word) for word in words])
    return heard.getvalue()
