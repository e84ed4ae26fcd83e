"""Modules of the working folder, such as a user's `tasks.py`, never shadow ours.

`python -m` and every interpreter that is started without a script put the working folder first
where modules are looked for. Workers that make training samples and Prefect's server are such
interpreters.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def protect_children() -> None:
    """Interpreters that this process starts leave their working folder out, as `python -P`."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")


def forget_working_folder() -> None:
    """Undo what `python -m` has put first, unless that is where this package itself lies."""
    here = Path.cwd()
    if not sys.flags.safe_path and here != Path(__file__).resolve().parents[2]:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
