"""Prefect's home folder, or another one where that can't be written.

Containers run under users without a home, and company machines have some that are read-only.
"""

from __future__ import annotations

import atexit
import errno
import functools
import os
import shutil
import tempfile
from pathlib import Path

from rich.console import Console

from flows.processes import interruption
from storage.errors.exceptions import ConfigError
from storage.files.user_files import user_path


def prefect_home() -> Path:
    """Prefect's home folder, without importing Prefect."""
    return user_path(os.environ.get("PREFECT_HOME") or "~/.prefect")


def choose_prefect_home() -> None:
    """Point Prefect to a writable folder, and tell the user if it is not Prefect's own.

    The user's profile is still read from its place.

    Raises:
        ConfigError: there is no writable folder.
    """
    home = prefect_home()
    try:
        if home.parts[0] == "~":
            raise FileNotFoundError(errno.ENOENT, "this user has no home")
        home.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
    except OSError as error:
        other = temporary_home()
        note(f"{home} can't be written ({error.strerror}): Prefect's files go to {other}.")
        os.environ["PREFECT_HOME"] = str(other)
        profiles = home / "profiles.toml"
        if os.access(profiles, os.R_OK):
            os.environ.setdefault("PREFECT_PROFILES_PATH", str(profiles))


@functools.cache
def temporary_home() -> Path:
    """A folder of this process, which is removed when the process ends.

    Raises:
        ConfigError: there is no folder for temporary files.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="zutis-prefect-"))
    except OSError as error:
        raise ConfigError(
            f"Prefect needs a folder for its files, and neither {prefect_home()} nor one for "
            "temporary files can be written: set PREFECT_HOME to a folder that can."
        ) from error
    remove = functools.partial(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(remove)
    interruption.finally_do(remove)
    return folder


def note(sentence: str) -> None:
    """Print a notice to standard error."""
    console = Console(stderr=True, soft_wrap=True, style="yellow")
    console.print(f"Note: {sentence}", highlight=False, markup=False)
