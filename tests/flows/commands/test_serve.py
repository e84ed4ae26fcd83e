"""`zutis serve`: finding, starting and stopping a server, the password, a run from end to end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import entry_points
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from rich.console import Console

from flows.commands import serve
from flows.prefect_server import served as serve_server
from flows.prefect_server.served import (
    Address,
    answers,
    choose_address,
    is_loopback,
    running_server,
)
from flows.service.notice import notice, read_notice
from storage.errors.exceptions import ConfigError, ZutisError
from tests.support.files.coloured_images import write_corpus
from tests.support.processes.nursery import run_zutis
from tests.support.servers.prefect_homes import prepared_home

ROOT = Path(__file__).parents[3]
PASSWORD = "someone:a-test-only-password"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def poll(condition: Callable[[], Any], seconds: float) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")


@pytest.mark.parametrize(
    ("given", "url", "host"),
    [
        ((None, None, None), "http://127.0.0.1:4200/api", "127.0.0.1"),
        ((None, 4300, None), "http://127.0.0.1:4300/api", "127.0.0.1"),
        (("::1", None, None), "http://[::1]:4200/api", "::1"),
        (("0.0.0.0", 4300, None), "http://127.0.0.1:4300/api", "0.0.0.0"),
        ((None, 4300, "http://far:4200/api"), "http://127.0.0.1:4300/api", "127.0.0.1"),
        ((None, None, "http://localhost:4300/api/"), "http://localhost:4300/api", "localhost"),
        ((None, None, "http://far:4200/api"), "http://far:4200/api", ""),
        ((None, None, "https://127.0.0.1/prefect/api"), "https://127.0.0.1/prefect/api", ""),
    ],
)
def test_options_go_before_the_configured_address(given: tuple[Any, ...], url: str, host: str):
    address = choose_address(*given)
    assert (address.api_url, address.host) == (url, host)


@pytest.mark.parametrize(
    ("host", "port", "sentence"),
    [
        (None, 0, "port is 0: choose one from 1 to 65535"),
        (None, 99_999_999, "port is 99999999: choose"),
        ("a/b", None, "host is 'a/b': give the name or the address"),
        ("[::1", 4200, r"host is '\[::1'"),
        ("fe80::1%x y", 4200, "host is 'fe80::1%x y'"),
    ],
)
def test_a_place_where_nothing_can_listen_is_named(host: Any, port: Any, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        choose_address(host, port, None)


@pytest.mark.parametrize("url", ["far:4200", "ftp://far/api", "http://far:port/api"])
def test_a_configured_address_that_is_none_is_named(url: str):
    with pytest.raises(ConfigError, match="PREFECT_API_URL is"):
        choose_address(None, None, url)


def test_loopback_is_recognised():
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.0.0.2", "::1"]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "::", "10.0.0.1", "example.org"]))


@pytest.mark.parametrize(
    ("uv", "defaults", "command"),
    [
        ("", {"corpus": "a", "vocabulary": "b"}, "  prefect deployment run {}"),
        ("/bin/uv", {"corpus": "a", "vocabulary": "b"}, "  uv run prefect deployment run {}"),
        ("", {"vocabulary": "b"}, "  prefect deployment run {} --param corpus=FOLDER"),
    ],
)
def test_the_next_command_is_told_as_it_can_be_typed(
    uv: str, defaults: dict[str, str], command: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("UV", uv)
    text = StringIO()
    address = Address("http://127.0.0.1:4200/api", "127.0.0.1", 4200)
    serve._tell(address, None, 2, defaults, Console(file=text, width=200))
    lines = text.getvalue().splitlines()
    assert command.format("build-pseudolabels/build-pseudolabels") in lines


@pytest.fixture
def health() -> Iterator[dict[str, Any]]:
    """An HTTP server that answers with `status` and `body`, on `port`."""
    answer: dict[str, Any] = {"status": 200, "body": b"true"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer["status"])
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    answer["port"] = server.server_port
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield answer
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_is_there_is_used_and_left_alone(health: dict[str, Any], tmp_path: Path):
    address = choose_address(None, health["port"], None)
    with running_server(address, tmp_path / "log") as started:
        assert not started
    assert answers(address)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(("status", "body"), [(404, b"true"), (200, b"<html>"), (401, b"")])
def test_another_program_on_the_port_is_told_apart(
    health: dict[str, Any], status: int, body: bytes
):
    health.update(status=status, body=body)
    with pytest.raises(ConfigError, match="no Prefect server"):
        answers(choose_address(None, health["port"], None))


def test_a_server_elsewhere_that_does_not_answer_is_not_started_here(tmp_path: Path):
    nowhere = Address(f"http://127.0.0.1:{free_port()}/api")
    with (
        pytest.raises(ConfigError, match="unset PREFECT_API_URL"),
        running_server(nowhere, tmp_path / "log"),
    ):
        raise AssertionError("there is none")


def test_a_server_that_ends_at_once_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(serve_server.sys, "executable", "/bin/false")
    with (
        pytest.raises(ZutisError, match=r"exit code 1 before .*/deep/log says why"),
        running_server(choose_address(None, free_port(), None), tmp_path / "deep" / "log"),
    ):
        raise AssertionError("there is none")


@pytest.fixture
def fake_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Prefect's server that answers at once; the file with its process id."""
    pid = tmp_path / "pid"
    script = tmp_path / "server"
    script.write_text(
        f"#!{sys.executable}\n"
        "import os, pathlib, sys\n"
        "from http.server import BaseHTTPRequestHandler, HTTPServer\n"
        "class Handler(BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200)\n"
        "        self.end_headers()\n"
        "        self.wfile.write(b'true')\n"
        "port = int(sys.argv[sys.argv.index('--port') + 1])\n"
        "server = HTTPServer(('127.0.0.1', port), Handler)\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\n"
        "server.serve_forever()\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(serve_server.sys, "executable", str(script))
    return pid


def test_a_server_that_was_started_here_is_stopped_here(fake_server: Path, tmp_path: Path):
    address = choose_address(None, free_port(), None)
    with running_server(address, tmp_path / "log") as started:
        assert started
        assert answers(address)
    assert not answers(address)


def test_a_server_that_is_killed_is_started_again(
    fake_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
):
    monkeypatch.setattr(serve_server, "_RESTART_SECONDS", 0.1)
    address = choose_address(None, free_port(), None)
    with running_server(address, tmp_path / "log"):
        killed = int(fake_server.read_text())
        os.kill(killed, signal.SIGKILL)
        poll(lambda: fake_server.read_text() not in ("", str(killed)) and answers(address), 60)
    assert not answers(address)
    assert "exit code -9 and is started again" in capfd.readouterr().err


def test_other_interfaces_need_a_password(monkeypatch: pytest.MonkeyPatch):
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING, temporary_settings

    with pytest.raises(ConfigError, match="PREFECT_SERVER_API_AUTH_STRING"):
        serve._choose_address("0.0.0.0", None)
    with temporary_settings({PREFECT_SERVER_API_AUTH_STRING: PASSWORD}):
        assert serve._choose_address("0.0.0.0", None).host == "0.0.0.0"


def test_the_notice_holds_while_something_listens(
    health: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    url = f"http://127.0.0.1:{health['port']}/api"
    assert read_notice() is None
    with notice(url):
        assert read_notice() == url
    assert read_notice() is None
    with notice(f"http://127.0.0.1:{free_port()}/api"):
        assert read_notice() is None
    with notice("http://192.0.2.1:4200/api"):  # not on this machine: no attempt to start it
        assert read_notice() is None


@dataclass
class Served:
    """A running `zutis serve`."""

    process: subprocess.Popen[str]
    folder: Path
    api_url: str
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment in the project's folder: no address, and the plugin."""
        return {
            **os.environ,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_API_AUTH_STRING": PASSWORD,
            "PREFECT_PLUGINS_ENABLED": "1",
        }

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        code = "from prefect.cli import app; app()"
        return run_zutis(arguments, self.folder, self.environment, timeout=200, code=code)

    def ended_runs(self) -> list[str]:
        """The states of the runs that have ended."""
        answer = httpx.post(
            f"{self.api_url}/flow_runs/filter", json={}, timeout=30, auth=tuple(PASSWORD.split(":"))
        )
        ended = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        return [run["state"]["name"] for run in answer.json() if run["state_type"] in ended]

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"{self.api_url}/{path}", timeout=30, **options)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    write_corpus(folder / "pictures", ["red", "green", "blue"], each=4)
    (folder / "colours.txt").write_text("red\ngreen\nblue\n")
    prepared_home(folder / "prefect")
    port = free_port()
    code = (
        "from flows.commands.serve import run\n"
        f"run(host=None, port={port}, limit=1, defaults={{\n"
        "    'corpus': 'pictures', 'vocabulary': 'colours.txt', 'per_category': 4,\n"
        "    'clip': 'made-ViT-8:random:0', 'selfmask': 'random:0', 'mask_size': 48},\n"
        "    allowed=['.'])\n"
    )
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_API_AUTH_STRING": PASSWORD,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    log = folder / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=folder, env=environment, stdout=output, stderr=output,
            text=True,
        )  # fmt: skip
    try:
        poll(lambda: "Ctrl-C" in log.read_text() or process.poll() is not None, 330)
        assert process.poll() is None, log.read_text()
        yield Served(process, folder, f"http://127.0.0.1:{port}/api", log)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(120)


pytestmark = pytest.mark.timeout(900)


@pytest.mark.slow
def test_health_is_open_and_the_rest_wants_the_password(served: Served):
    assert served.get("health").status_code == 200
    assert served.get("admin/version").status_code == 401
    assert served.get("admin/version", auth=("someone", "else")).status_code == 401
    assert served.get("admin/version", auth=tuple(PASSWORD.split(":"))).status_code == 200
    files = [served.log, *(served.folder / "prefect").glob("*.log")]
    assert len(files) == 2
    for file in files:
        assert PASSWORD.split(":")[1] not in file.read_text()


@pytest.mark.slow
def test_the_plugin_is_an_entry_point_of_the_package():
    assert "flows.service.plugin" in {e.value for e in entry_points(group="prefect.plugins")}


@pytest.mark.slow
def test_the_literal_command_runs_to_its_end(served: Served):
    """`prefect deployment run build-pseudolabels`, without a flow's name, address or parameter."""
    done = served.prefect("deployment", "run", "build-pseudolabels")
    assert done.returncode == 0, done.stdout + done.stderr
    assert poll(served.ended_runs, 400) == ["Completed"], served.log.read_text()
    records = list((served.folder / "zutis-store" / "record_build").glob("*/manifest.json"))
    assert len(records) == 1
    assert json.loads(records[0].read_text())


@pytest.mark.slow
def test_a_run_reads_nothing_outside_the_roots(served: Served, tmp_path: Path):
    write_corpus(tmp_path / "others", ["red"], each=1)
    before = len(served.ended_runs())
    name, corpus = "build-pseudolabels/build-pseudolabels", f"corpus={tmp_path}/others"
    done = served.prefect("deployment", "run", name, "--param", corpus)
    assert done.returncode == 0, done.stdout + done.stderr
    ended = poll(lambda: (runs := served.ended_runs())[before:] and runs, 400)
    assert "Failed" in ended, served.log.read_text()
    assert f"{tmp_path}/others is outside" in served.log.read_text()


@pytest.mark.slow
def test_who_has_not_the_password_is_told_how_to_give_it(served: Served):
    port = served.api_url.rpartition(":")[2].removesuffix("/api")
    code = (
        "from flows.cli import exit_code_of\n"
        "from flows.commands.serve import run\n"
        f"serve = lambda: run(host=None, port={port}, limit=1, defaults={{}})\n"
        "raise SystemExit(exit_code_of(serve))"
    )
    environment = served.environment
    del environment["PREFECT_API_AUTH_STRING"]
    done = run_zutis([], ROOT, environment, timeout=200, code=code)
    assert done.returncode == 2, done.stderr
    assert "PREFECT_API_AUTH_STRING=USER:PASSWORD" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_sigterm_stops_the_server_too(served: Served):
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(120) == 0
    assert "Stopped." in served.log.read_text()
    assert not (served.folder / "prefect" / "zutis-serve.url").exists()
    with pytest.raises(httpx.ConnectError):
        served.get("health")
