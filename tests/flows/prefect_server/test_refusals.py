"""A configured Prefect server that can't be reached gives one sentence and exit code 2."""

from __future__ import annotations

import http.server
import os
import threading
from pathlib import Path

import pytest
from rich.console import Console

from flows.cli import exit_code_of
from flows.commands import build, evaluate, train
from flows.prefect_server import start
from flows.prefect_server.refusals import refusal_of_server, require_configured_server
from storage.errors.exceptions import ConfigError
from tests.support.processes.nursery import run_zutis
from tests.support.servers.loopback import answering, unreachable_url

ROOT = Path(__file__).parents[3]

_FLOW = """
import sys
from flows.cli import exit_code_of
from flows.prefect_server.settings import prepare_prefect
prepare_prefect()
def command():
    from prefect import flow
    flow(lambda: None, name="trial")()
sys.exit(exit_code_of(command))
"""
_CHECK = """
import sys
from flows.cli import exit_code_of
from flows.prefect_server import refusals
refusals._PATIENCE_SECONDS = 1.0
sys.exit(exit_code_of(refusals.require_configured_server))
"""


def said(code: str, tmp_path, **environment: str) -> str:
    """A process's standard error, which is one sentence."""
    clean = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    clean |= {"PREFECT_HOME": str(tmp_path), **environment}
    done = run_zutis([], ROOT, clean, timeout=200, code=code)
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = b"<html>Welcome</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


class _Silent(_Page):
    def do_GET(self) -> None:
        _Silent.until.wait(60)

    until = threading.Event()


class _Nothing(_Page):
    def do_GET(self) -> None:
        self.send_error(404)


def api_url_of(server: http.server.HTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}/api"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("api_url", "words"),
    [
        (unreachable_url("/api"), "Connection refused"),
        ("ftp://127.0.0.1/api", "write one such as http://127.0.0.1:4200/api"),
        ("nowhere", "write one such as http://127.0.0.1:4200/api"),
        ("http://name:secret@127.0.0.1:9/api", "No Prefect server answers"),
    ],
    ids=["nobody", "ftp", "no address", "password"],
)
def test_an_address_at_which_nobody_can_answer_stops_a_command_first(api_url, words, tmp_path):
    sentence = said(_CHECK, tmp_path, PREFECT_API_URL=api_url)
    assert words in sentence
    assert "PREFECT_API_URL" in sentence
    assert "secret" not in sentence


@pytest.mark.slow
def test_a_server_that_hangs_is_not_waited_for(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Silent) as server, answering(server):
        sentence = said(_CHECK, tmp_path, PREFECT_API_URL=api_url_of(server))
        _Silent.until.set()
    assert "No Prefect server answers at http://127.0.0.1" in sentence


@pytest.mark.slow
@pytest.mark.parametrize("handler", [_Page, _Nothing])
def test_another_program_at_the_address(handler, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, answering(server):
        sentence = said(_FLOW, tmp_path, PREFECT_API_URL=api_url_of(server))
    assert "is no Prefect server" in sentence


@pytest.mark.slow
def test_a_server_that_goes_away_meanwhile(tmp_path):
    sentence = said(_FLOW, tmp_path, PREFECT_API_URL=unreachable_url("/api"))
    assert "No Prefect server answers at http://127.0.0.1" in sentence


@pytest.mark.slow
def test_a_socks_proxy_without_its_package(tmp_path):
    api_url = "http://prefect.invalid:4200/api"
    sentence = said(_CHECK, tmp_path, PREFECT_API_URL=api_url, ALL_PROXY="socks5://127.0.0.1:9")
    assert "ALL_PROXY" in sentence
    assert "httpx[socks]" in sentence


def test_errors_of_other_http_clients_are_not_the_servers():
    import httpx

    def elsewhere() -> None:
        httpx.get(unreachable_url("/weights"), trust_env=False)

    with pytest.raises(httpx.ConnectError) as caught:
        elsewhere()
    assert refusal_of_server(caught.value) is None
    assert refusal_of_server(RuntimeError("Failed to reach an agreement")) is None
    assert refusal_of_server(ImportError("no module named x")) is None


def test_nothing_is_asked_where_no_server_is_configured(monkeypatch, tmp_path):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    require_configured_server()


@pytest.mark.parametrize(
    ("module", "arguments"),
    [(build, 3), (train, 4), (evaluate, 4)],
    ids=["build", "train", "evaluate"],
)
def test_every_command_that_runs_a_flow_asks_first(module, arguments, monkeypatch):
    class Settings:
        cluster, device = "", "cpu"

    def refuse() -> None:
        raise ConfigError("No server.")

    monkeypatch.setattr(start, "require_configured_server", refuse)
    given = [Settings(), *[None] * (arguments - 2), Console(quiet=True)]
    assert exit_code_of(lambda: module._run_flow(*given)) == 2
