"""Builds forked from a process with all imports done, so that each starts at once.

SIGKILL acts the same on forked processes and on commands. Settings that imports fix (the Prefect
server) are the same for all of them; builds with another environment at import time are started as
commands instead.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_PRELOADED = [
    "torch", "open_clip", "timm", "faiss", "scipy.ndimage", "webdataset", "torchvision",
    "safetensors.torch", "torch.utils.tensorboard", "flows.cli", "flows.build_pseudolabels",
    "flows.execution.stages", "tasks.training.train", "zutis_model.zutis.initialisation",
]  # fmt: skip


class ForkedProcess:
    """A running command with those methods of `subprocess.Popen` that the tests use."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid: int = process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; negative: the signal.

        Raises:
            subprocess.TimeoutExpired: it is still running.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a forked build", timeout or 0.0)
        return self._process.exitcode


def prepare(environment: Mapping[str, str]) -> None:
    """Start the forking process, with the environment for its imports."""
    from multiprocessing import forkserver

    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ.update(environment)
    try:
        multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOADED)
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def fork(command: Sequence[str], environment: Mapping[str, str], output: Path) -> ForkedProcess:
    """Run the driver in a process group of its own.

    Args:
        command: its arguments.
        environment: all of its environment.
        output: file for its output.
    """
    context = multiprocessing.get_context("forkserver")
    process = context.Process(
        target=_run, args=(list(command), dict(environment), str(output)), daemon=False
    )
    process.start()
    return ForkedProcess(process)


def _run(command: list[str], environment: dict[str, str], output: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["zutis", *command]
    from fault_driver import main

    main()
