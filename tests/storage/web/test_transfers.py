"""Downloads of large files from failing servers: complete, or an error that says why."""

from __future__ import annotations

import contextlib
import hashlib
import io
import socket
import threading

import pytest

from storage.web import transfers
from storage.web.transfers import DownloadError, receive
from tests.support.servers.bad_server import CUT, DRIP, HANG, REFUSE, RESET, bad_server, hurried
from tests.support.servers.loopback import unreachable_url

WHOLE = bytes(range(256)) * 4000  # a megabyte


@pytest.fixture
def server():
    with bad_server() as running:
        running.body = WHOLE
        yield running


@pytest.fixture
def clock(monkeypatch):
    with hurried(monkeypatch) as passing:
        yield passing


def received(url: str) -> bytes:
    file = io.BytesIO()
    digest, size = receive(url, file, "weights", False)
    content = file.getvalue()
    assert (digest, size) == (hashlib.sha256(content).hexdigest(), len(content))
    return content


@pytest.mark.parametrize("trouble", [408, 429, 500, 503, CUT, RESET, REFUSE])
def test_transient_errors_are_retried(server, clock, trouble):
    server.scripts["/w.pt"] = [trouble, WHOLE]
    assert received(server.url("/w.pt")) == WHOLE
    assert clock.pauses == [1.0]


@pytest.mark.parametrize(
    ("trouble", "words", "tries"),
    [
        (503, "it answers 503", 4),
        (429, "it answers 429", 4),
        (CUT, r"the connection (broke|ended)", 4),
        ((429, {"Retry-After": "86400"}), "it answers 429", 1),
        (404, "it answers 404", 1),
        (403, "it answers 403", 1),
        (HANG, "sends nothing, or next to nothing", 2),
        (DRIP, "sends nothing, or next to nothing", 1),
    ],
)
def test_lasting_errors_are_reported(server, clock, monkeypatch, trouble, words, tries):
    if trouble in (HANG, DRIP):
        monkeypatch.setattr(transfers, "_TIMEOUT_SECONDS", 0.3)
    server.scripts["/w.pt"] = [trouble]
    with pytest.raises(DownloadError, match=words):
        received(server.url("/w.pt"))
    assert len(server.asked) == tries


def test_retry_after_is_respected(server, clock):
    server.scripts["/w.pt"] = [(503, {"Retry-After": "42"}), WHOLE]
    assert received(server.url("/w.pt")) == WHOLE
    assert clock.pauses == [42.0]


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(clock, monkeypatch):
    monkeypatch.setattr(transfers, "_TIMEOUT_SECONDS", 0.4)
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        connections = []
        for _ in range(2):
            connections.append(listener.accept()[0])
        with contextlib.suppress(OSError):  # once both have hung up
            while not over.wait(0.05):
                for connection in connections:
                    connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        with pytest.raises(DownloadError, match="next to nothing"):
            received(f"http://127.0.0.1:{listener.getsockname()[1]}/w.pt")
        over.set()
        thread.join(5)


def test_an_unreachable_server_is_reported_at_once(clock):
    with pytest.raises(DownloadError, match="it can't be reached"):
        received(unreachable_url("/w.pt"))
    assert clock.pauses == []


@pytest.mark.parametrize("changed", [False, True])
def test_a_transfer_goes_on_where_it_broke_off_unless_the_file_changed(server, clock, changed):
    server.etag = '"one"'
    server.ranges = True
    other = WHOLE[::-1] if changed else WHOLE
    server.scripts["/w.pt"] = [CUT, ("retag", '"two"', other) if changed else other]
    assert received(server.url("/w.pt")) == other
    assert server.sent == [len(WHOLE) // 2, len(WHOLE) if changed else len(WHOLE) // 2]


def test_a_server_without_versions_sends_all_of_it_again(server, clock):
    server.scripts["/w.pt"] = [CUT, WHOLE]
    assert received(server.url("/w.pt")) == WHOLE
    assert server.sent == [len(WHOLE) // 2, len(WHOLE)]
