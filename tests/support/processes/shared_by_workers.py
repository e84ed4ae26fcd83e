"""Resources that the workers of a test run make once and share."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def leader() -> int:
    """Id of the process that leads the test run: this one, or the one that started this worker."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


def shared_folder() -> Path:
    """A folder of this test run; its path is short enough for the names of sockets."""
    folder = _folder_of(leader())
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def remove_shared_folder() -> None:
    """Remove the folder; called at the end of the leading process."""
    shutil.rmtree(_folder_of(os.getpid()), ignore_errors=True)


@contextmanager
def one_worker_at_a_time(what: str) -> Iterator[None]:
    """Lock out other workers that enter with the same name."""
    with (shared_folder() / f"{what}-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _folder_of(process: int) -> Path:
    return Path(tempfile.gettempdir()) / f"zutis-tests-{os.getuid()}-{process}"
