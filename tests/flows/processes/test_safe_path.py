"""A user's `tasks.py` in the working folder does not shadow our package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_WORKERS = """
import multiprocessing
from flows.processes.safe_path import protect_children

if __name__ == "__main__":
    protect_children()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tasks.stage.layout"])
    with context.Pool(1) as pool:
        print(pool.apply(abs, (-7,)))
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    folder = tmp_path / "working"
    folder.mkdir()
    for name in ("tasks", "storage", "zutis_model"):
        (folder / f"{name}.py").write_text("raise SystemExit('a file of the user was run')\n")
    return folder


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_module_that_is_started_by_name_finds_ours(hostile):
    done = run_in(hostile, "-m", "flows", "vocabularies")
    assert done.returncode == 0, done.stderr
    assert "imagenet-s50" in done.stdout


def test_workers_find_ours(hostile, tmp_path):
    script = tmp_path / "elsewhere" / "command.py"
    script.parent.mkdir()
    script.write_text(_WORKERS)
    done = run_in(hostile, str(script))
    assert "user was run" not in done.stdout + done.stderr
    assert done.stdout == "7\n"
