"""`zutis` commands in this process: their output, or the error that a user would see."""

from __future__ import annotations

import contextlib
import io

from flows.cli import run_command_line


def said(*words: object) -> str:
    """A command's standard output.

    Raises:
        ZutisError, CycloptsError: as the command does.
    """
    heard = io.StringIO()
    with contextlib.redirect_stdout(heard):
        run_command_line([str(word) for word in words])
    return heard.getvalue()
