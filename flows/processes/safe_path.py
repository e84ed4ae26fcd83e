"""Modules of the working folder, such as a user's `tasks.py`, never shadow ours.

`python -m` and every interpreter without a script put the working folder first on `sys.path`. The
workers that make training samples and Prefect's server are such interpreters.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def protect_children() -> None:
    """Let interpreters that this process starts leave out their working folder, as `python -P`."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")


def forget_working_folder() -> None:
    """Remove the folder that `python -m` has put first, unless this package itself lies there."""
    here = Path.cwd()
    if not sys.flags.safe_path and here != Path(__file__).resolve().parents[2]:
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
