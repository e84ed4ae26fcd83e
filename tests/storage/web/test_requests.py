"""Failing web servers: retries, timeouts, and the errors that result."""

from __future__ import annotations

import email.utils
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.corpora.corpus import open_sources
from storage.corpora.image_bytes import iter_entry
from storage.errors.exceptions import CorpusError, StorageError
from storage.errors.reject_reasons import REJECT_REASONS, TRANSIENT
from storage.files.file_heads import read_heads
from storage.files.filesystems import (
    MissingFileError,
    ShortReadError,
    TransientError,
    exists,
    open_binary,
    read_bytes,
    read_range,
)
from storage.web import requests, retries
from tests.support.servers.bad_server import CUT, DRIP, HANG, REFUSE, RESET, bad_server, hurried
from tests.support.servers.loopback import unreachable_url

GOOD = b"some bytes of a file" * 100


@pytest.fixture
def server():
    with bad_server() as running:
        running.body = GOOD
        yield running


@pytest.fixture
def clock(monkeypatch):
    with hurried(monkeypatch) as passing:
        yield passing


def reason_of(call) -> str:
    with pytest.raises(TransientError) as caught:
        call()
    assert str(caught.value).endswith("try again later.")
    return caught.value.reason


def test_transient_reasons_mention_the_next_run():
    assert all("the next run asks again" in REJECT_REASONS[reason] for reason in TRANSIENT)


@pytest.mark.parametrize(
    "trouble", [408, 429, 500, 502, 503, 504, CUT, RESET, (503, {"Retry-After": "7"})]
)
def test_transient_errors_are_retried(server, clock, trouble):
    server.scripts["/a"] = [trouble, GOOD]
    assert read_bytes(server.url("/a")) == GOOD
    assert clock.pauses == [7.0 if isinstance(trouble, tuple) else 1.0]


def test_a_connection_that_is_closed_without_an_answer_is_made_again(server, clock):
    server.scripts["/a"] = [REFUSE, REFUSE, REFUSE, GOOD]
    assert read_bytes(server.url("/a")) == GOOD


@pytest.mark.parametrize(
    ("trouble", "reason", "tries"),
    [
        (503, "server_error", 4),
        (500, "server_error", 4),
        (429, "too_many_requests", 4),
        (408, "timed_out", 2),
        (CUT, "connection_lost", 4),
        (RESET, "connection_lost", 4),
        (HANG, "timed_out", 1),
        (DRIP, "timed_out", 1),
    ],
)
def test_lasting_errors_end_with_their_own_reasons(
    server, clock, monkeypatch, trouble, reason, tries
):
    if trouble in (HANG, DRIP):
        monkeypatch.setenv(retries.TRANSFER_VARIABLE, "0.3")
    server.scripts["/a"] = [trouble]
    assert reason_of(lambda: read_bytes(server.url("/a"))) == reason
    assert server.asked == ["/a"] * tries
    assert clock.pauses == [1.0, 4.0, 15.0][: tries - 1]


def test_a_hanging_server_is_asked_twice_if_the_read_timeout_comes_first(
    server, clock, monkeypatch
):
    monkeypatch.setattr(requests, "READ_SECONDS", 0.2)
    server.scripts["/a"] = [HANG]
    assert reason_of(lambda: read_bytes(server.url("/a"))) == "timed_out"
    assert server.asked == ["/a"] * 2


def test_no_server(clock):
    assert reason_of(lambda: read_bytes(unreachable_url("/a"))) == "connection_lost"
    assert reason_of(lambda: read_bytes("http://no-such-host.invalid/a")) == "connection_lost"
    assert clock.pauses == [1.0, 4.0, 15.0]  # an invalid host name is not retried


@pytest.mark.parametrize("status", [404, 410])
def test_missing_files_are_requested_once(server, clock, status):
    server.scripts["/a"] = [status]
    for call in (read_bytes, open_binary, lambda uri: read_range(uri, 0, 5)):
        with pytest.raises(MissingFileError):
            call(server.url("/a"))
    assert not exists(server.url("/a"))
    assert len(server.asked) == 4
    assert clock.pauses == []


@pytest.mark.parametrize("refusal", [400, 401, 403, 451, (302, {"Location": "/a"})])
def test_refusals_are_not_transient(server, clock, refusal):
    server.scripts["/a"] = [refusal]
    with pytest.raises(StorageError) as caught:
        read_bytes(server.url("/a"))
    assert not isinstance(caught.value, TransientError | MissingFileError)
    assert clock.pauses == []
    assert len(server.asked) <= 11  # a redirection to itself


@pytest.mark.parametrize("uri", ["http://", "http://[::1", "http://host:99999/a", "http://a..b/c"])
def test_invalid_addresses(clock, uri):
    with pytest.raises(StorageError):
        read_bytes(uri)


def test_retry_after_may_be_a_date_and_holds_for_the_whole_host(server, clock):
    later = email.utils.formatdate(time.time() + 60, usegmt=True)
    server.scripts |= {"/a": [(429, {"Retry-After": later}), GOOD], "/b": [GOOD]}
    assert read_bytes(server.url("/a")) == GOOD
    assert 50 < clock.pauses[0] <= 60
    server.scripts["/a"] = [(503, {"Retry-After": "3600"})]
    assert reason_of(lambda: read_bytes(server.url("/a"))) == "server_error"
    asked = len(server.asked)
    assert reason_of(lambda: read_bytes(server.url("/b"))) == "server_error"
    assert len(server.asked) == asked  # less than an hour later
    clock.now += 3600
    assert read_bytes(server.url("/b")) == GOOD


def test_retry_after_that_means_nothing_is_passed_over(server, clock):
    server.scripts["/a"] = [(503, {"Retry-After": "soon"}), GOOD]
    assert read_bytes(server.url("/a")) == GOOD
    assert clock.pauses == [1.0]


def test_a_failing_host_is_asked_once_a_file_until_it_answers(server, clock):
    server.scripts = {f"/{n}": [503] for n in range(12)} | {"/good": [GOOD]}
    for n in range(12):
        assert reason_of(lambda n=n: read_bytes(server.url(f"/{n}"))) == "server_error"
    assert [server.times[f"/{n}"] for n in range(12)] == [4] * 8 + [1] * 4
    assert read_bytes(server.url("/good")) == GOOD
    assert reason_of(lambda: read_bytes(server.url("/0"))) == "server_error"
    assert server.times["/0"] == 8


def test_a_host_that_never_sends_is_left_alone_for_a_minute(server, clock, monkeypatch):
    monkeypatch.setenv(retries.TRANSFER_VARIABLE, "0.05")
    server.scripts = {f"/{n}": [HANG] for n in range(30)} | {"/good": [GOOD]}
    for n in range(30):
        assert reason_of(lambda n=n: read_bytes(server.url(f"/{n}"))) == "timed_out"
    assert server.asked == [f"/{n}" for n in [*range(8), 8 + 15]]
    monkeypatch.setenv(retries.TRANSFER_VARIABLE, "20")
    clock.now += 60
    assert read_bytes(server.url("/good")) == GOOD


def test_files_that_are_never_sent_do_not_hide_those_behind_them(server, clock, monkeypatch):
    monkeypatch.setenv(retries.TRANSFER_VARIABLE, "0.05")
    server.scripts = {f"/{n}": [HANG] for n in range(8)} | {"/good": [GOOD]}
    for n in range(8):
        reason_of(lambda n=n: read_bytes(server.url(f"/{n}")))
    monkeypatch.setenv(retries.TRANSFER_VARIABLE, "20")
    for _ in range(15):
        assert reason_of(lambda: read_bytes(server.url("/good"))) == "timed_out"
    assert [read_bytes(server.url("/good")) for _ in range(5)] == [GOOD] * 5


def test_a_host_gets_eight_requests_at_a_time(server, clock):
    server.gate = threading.Event()
    server.scripts = {f"/{n}": [GOOD] for n in range(40)}
    with ThreadPoolExecutor(40) as pool:
        reads = [pool.submit(read_bytes, server.url(f"/{n}")) for n in range(40)]
        deadline = time.monotonic() + 20
        while server.most < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        server.gate.set()
        assert [read.result() for read in reads] == [GOOD] * 40
    assert server.most == 8


def test_a_file_that_is_too_large_is_not_received(server, clock):
    server.scripts["/a.jpg"] = [GOOD]
    [item] = iter_entry(server.url("/a.jpg"), "image", max_bytes=100)
    assert (item.data, item.reject_reason) == (None, "file_too_large")


def test_a_large_file_may_take_longer_than_an_image_if_it_keeps_coming(server, clock, monkeypatch):
    monkeypatch.setattr(requests, "_LEAST_BYTES", 1)
    monkeypatch.setenv(retries.TRANSFER_VARIABLE, "1")
    server.ranges = False
    server.body = b"y" * 30  # a byte each 0.05 s: longer than an image may take
    server.scripts["/t.csv"] = [server.body, DRIP]
    with open_binary(server.url("/t.csv")) as file:
        assert file.read() == server.body


def test_a_long_read_of_a_stream_is_several_requests(server, clock, monkeypatch):
    monkeypatch.setattr(requests, "_BUFFER_BYTES", 512)
    server.scripts["/a"] = [GOOD]
    with open_binary(server.url("/a")) as file:
        assert file.read(2000) == GOOD[:2000]
    assert len(server.asked) >= 1 + 4


@pytest.mark.parametrize("ranges", [True, False])
def test_ranges_and_streams_with_and_without_a_server_of_ranges(server, clock, ranges):
    server.ranges = ranges
    server.scripts["/a"] = [GOOD]
    uri = server.url("/a")
    assert read_range(uri, 5, 10) == GOOD[5:15]
    with pytest.raises(ShortReadError):
        read_range(uri, len(GOOD) - 5, 10)
    with pytest.raises(ShortReadError):
        read_range(uri, len(GOOD) + 5, 10)
    assert read_heads([uri, server.url("/none")], 8) == [GOOD[:8], b""]
    with open_binary(uri) as file:
        assert file.read(3) == GOOD[:3]
        assert file.seek(-4, 2) == len(GOOD) - 4
        assert file.read() == GOOD[-4:]
        file.seek(0)
        assert file.read() == GOOD


def test_an_empty_file(server, clock):
    server.scripts["/a"] = [b""]
    assert read_bytes(server.url("/a")) == b""
    with open_binary(server.url("/a")) as file:
        assert file.read() == b""


def test_trouble_in_mid_stream_is_tried_again_from_there(server, clock):
    server.scripts["/a"] = [GOOD, 503, GOOD, RESET, GOOD]
    with open_binary(server.url("/a")) as file:
        assert file.read() == GOOD
    assert clock.pauses[0] == 1.0


def test_trouble_does_not_make_a_corpus_disappear(server, clock, tmp_path):
    server.scripts["/list.txt"] = [503]
    with pytest.raises(TransientError, match="its server answers 503"):
        open_sources([server.url("/list.txt")])
    server.scripts["/list.txt"] = [503, b"a.jpg\n"]
    [source] = open_sources([server.url("/list.txt")])
    assert source.kind == "table"
    with pytest.raises(CorpusError, match="does not exist"):
        open_sources([server.url("/none.txt")])


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [(503, "server_error"), (429, "too_many_requests"), (HANG, "timed_out"), (DRIP, "timed_out"),
     (CUT, "connection_lost"), (404, "missing"), (410, "missing"), (403, "unreadable")],
)  # fmt: skip
def test_an_image_has_the_reason(server, clock, monkeypatch, trouble, reason):
    if trouble in (HANG, DRIP):
        monkeypatch.setenv(retries.TRANSFER_VARIABLE, "0.3")
    server.scripts["/a.jpg"] = [trouble]
    [item] = iter_entry(server.url("/a.jpg"), "image")
    assert (item.data, item.reject_reason) == (None, reason)
