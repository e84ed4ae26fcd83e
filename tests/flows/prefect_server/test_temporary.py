"""The temporary Prefect server of a command, on difficult machines."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from flows.prefect_server.temporary import ServerEndedError, TemporaryServer
from flows.processes.attached import start_attached, stop_attached
from tests.support.files.coloured_images import write_corpus
from tests.support.processes.nursery import ZUTIS, run_zutis
from tests.support.servers.prefect_homes import prepared_home

NOWHERE = "http://127.0.0.1:9"  # the port of `discard`, where no server listens


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user without Prefect settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {
        **kept,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "COLUMNS": "200",
    }


def build(folder: Path, environment: dict[str, str], files: int = 0) -> str:
    """Build a small data set in the folder, with an optional limit on open files; the output."""
    write_corpus(folder / "pictures", ["red", "green", "blue"], each=2)
    (folder / "colours.txt").write_text("red\ngreen\nblue\n")
    command = [
        "build", "--corpus", "pictures", "--vocabulary", "colours.txt",
        "--per-category", "2", "--clip", "made-ViT-8:random:0", "--selfmask", "random:0",
        "--mask-size", "48", "--store", "store",
    ]  # fmt: skip
    limit = f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({files}, {files}))\n"
    code = (limit if files else "") + ZUTIS
    done = run_zutis(command, folder, environment, timeout=280, code=code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_proxies_few_files_and_a_damaged_database(tmp_path, environment):
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "prefect.db").write_bytes(b"no database" * 1000)
    proxies = {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "http_proxy": NOWHERE}
    said = build(tmp_path, {**environment, **proxies}, files=64)
    assert f"Prefect can't use its database in {tmp_path}/prefect" in said
    assert (tmp_path / "prefect" / "prefect.db").read_bytes() == b"no database" * 1000


@pytest.mark.slow
def test_a_home_that_is_none(tmp_path, environment):
    del environment["PREFECT_HOME"]
    said = build(tmp_path, {**environment, "HOME": "/proc/nonexistent"})
    assert "Note: /proc/nonexistent/.prefect can't be written" in said


@pytest.mark.slow
def test_it_answers_on_its_own_port_in_a_session_of_its_own(tmp_path):
    server = TemporaryServer({"PREFECT_HOME": str(prepared_home(tmp_path))})
    try:
        server.wait()
        answer = httpx.get(f"{server.api_url}/health", trust_env=False)
        assert answer.json() is True
        assert os.getsid(server._process.pid) == server._process.pid
    finally:
        server.stop()
    assert server._process.poll() is not None
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.api_url}/health", trust_env=False)


@pytest.mark.slow
def test_one_that_ends_says_its_last_words():
    server = TemporaryServer({"PYTHONPATH": "", "PREFECT_LOGGING_LEVEL": "no level at all"})
    with pytest.raises(ServerEndedError, match=r"exit code 1 before it answered: \S"):
        server.wait()


def test_an_attached_program_ends_with_the_pipe(tmp_path):
    (tmp_path / "endless.py").write_text("import time\nprint('there', flush=True)\ntime.sleep(600)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with (tmp_path / "output").open("wb") as output:
        process = start_attached("endless", [], output=output, environment=environment)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30.0) != 0


def test_an_attached_program_gets_its_arguments(tmp_path):
    (tmp_path / "told.py").write_text("import sys\nprint(__name__, sys.argv[1:])")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with (tmp_path / "output").open("wb") as output:
        process = start_attached("told", ["a", "-b"], output=output, environment=environment)
    assert process.wait(30.0) == 0
    assert (tmp_path / "output").read_text() == "__main__ ['a', '-b']\n"
    stop_attached(process, 1.0)
