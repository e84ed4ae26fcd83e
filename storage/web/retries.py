"""Retries, pauses and concurrency limits for web servers.

A request fails for good (the file is not there, or may not be read) or with a transient error: no
answer in time, too many requests, an error of the server, a broken connection. Transient errors are
retried after a pause, whose length is the server's own where it states one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar
from urllib.parse import urlsplit

from storage.errors.reject_reasons import SERVER_ERROR, TIMED_OUT, TOO_MANY_REQUESTS

_Answer = TypeVar("_Answer")

TRANSFER_VARIABLE: Final = "ZUTIS_TRANSFER_SECONDS"
"""The longest that the transfer of one image may take; see `transfer_seconds`."""

_TRANSFER_SECONDS: Final = 120.0
CONNECT_SECONDS: Final = 15.0
READ_SECONDS: Final = 30.0
"""Timeouts of a connection, and of a wait for the next byte, headers included."""

_REQUESTS_PER_HOST: Final = 8
"""Requests to one host that this process has open at a time."""

_PAUSES: Final = (1.0, 4.0, 15.0)
"""Seconds before each retry, where the server states none."""

_TRIES_AFTER_TIMEOUT: Final = 2  # each takes half a minute
_LONGEST_PAUSE: Final = 120.0
"""A server that asks for a longer pause gets no further request in this run before it is over."""

_FAILED_FILES: Final = 8
"""After so many failed files in a row a host is asked only once for each file."""

_REST_SECONDS: Final = 60.0
"""How long such a host gets no request, where its requests time out or are too many."""

_FIRST_PROBE: Final = 16
"""Of the files that are skipped meanwhile, this one is requested, and the 32nd, the 64th and so on:
otherwise a few files that are never sent would hide all behind them, in each run anew."""

_clock: Callable[[], float] = time.monotonic
_sleep: Callable[[float], None] = time.sleep


class TransientWebError(OSError):
    """A failure of a web server or connection that may pass, and not of the file.

    Attributes:
        reason: one of `reject_reasons.TRANSIENT`.
        pause: seconds that the server asks for; None if it does not.
        retry: whether a retry may help at once.
    """

    def __init__(
        self, reason: str, text: str, *, pause: float | None = None, retry: bool = True
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.pause = pause
        self.retry = retry


def transfer_seconds() -> float:
    """The longest that the transfer of one image may take, headers, redirects and all: 120 s, or
    the value of `ZUTIS_TRANSFER_SECONDS`."""
    try:
        seconds = float(os.environ.get(TRANSFER_VARIABLE, ""))
    except ValueError:
        return _TRANSFER_SECONDS
    return seconds if 0 < seconds < float("inf") else _TRANSFER_SECONDS


def transient_error_of_status(status: int, retry_after: str | None) -> TransientWebError | None:
    """The error of a status that may be another one later; None for all other statuses."""
    reason = {408: TIMED_OUT, 429: TOO_MANY_REQUESTS}.get(status)
    if reason is None and 500 <= status < 600:
        reason = SERVER_ERROR
    if reason is None:
        return None
    return TransientWebError(reason, f"its server answers {status}", pause=_seconds(retry_after))


def with_retries(uri: str, request: Callable[[], _Answer]) -> _Answer:
    """The result of `request`, which is retried with pauses while it raises transient errors.

    Args:
        uri: its host gets at most `_REQUESTS_PER_HOST` requests at a time.
        request: one request, with its answer's body.

    Raises:
        TransientWebError: the last retry failed, or the host gets no requests at present.
    """
    host = _host_of(uri)
    tries = 0
    while True:
        host.wait()
        tries += 1
        try:
            with host.slots:
                answer = request()
        except TransientWebError as error:
            pause = host.pause_after(error, tries)
            if pause is None:
                host.failed(error)
                raise
            _sleep(pause)
        except OSError:
            host.answered()  # that the file is not there, or may not be read
            raise
        else:
            host.answered()
            return answer


class _Host:
    """The state of one server, as this process has met it."""

    def __init__(self) -> None:
        self.slots = threading.BoundedSemaphore(_REQUESTS_PER_HOST)
        self._lock = threading.Lock()
        self._failed_files = 0
        self._not_before = 0.0  # as the server asks
        self._rests_until = 0.0
        self._skipped = 0
        self._last: TransientWebError | None = None

    def wait(self) -> None:
        """Wait until the host may get the next request.

        Raises:
            TransientWebError: the last one, where that is longer than the longest pause.
        """
        with self._lock:
            now, last = _clock(), self._last
            pause = self._not_before - now
            skip = pause > _LONGEST_PAUSE
            if not skip and now < self._rests_until:
                self._skipped += 1
                skip = self._skipped < _FIRST_PROBE or self._skipped.bit_count() > 1
        if skip and last is not None:
            raise TransientWebError(
                last.reason, f"{last}, and its server is not asked again so soon"
            )
        if pause > 0:
            _sleep(min(pause, _LONGEST_PAUSE))

    def pause_after(self, error: TransientWebError, tries: int) -> float | None:
        """Seconds until the next retry; None for no retry."""
        with self._lock:
            if error.pause is not None:  # for all threads that ask this host
                self._not_before = max(self._not_before, _clock() + error.pause)
            failing = self._failed_files >= _FAILED_FILES
        most = len(_PAUSES) + 1 if error.reason != TIMED_OUT else _TRIES_AFTER_TIMEOUT
        if failing or not error.retry or tries >= most:
            return None
        if error.pause is None:
            return _PAUSES[tries - 1]
        return error.pause if error.pause <= _LONGEST_PAUSE else None

    def failed(self, error: TransientWebError) -> None:
        """Count a file that the host did not send."""
        with self._lock:
            self._failed_files += 1
            self._last = error
            if self._failed_files >= _FAILED_FILES and error.reason in (
                TIMED_OUT,
                TOO_MANY_REQUESTS,
            ):
                self._rests_until = _clock() + _REST_SECONDS

    def answered(self) -> None:
        """Forget the failures before this answer."""
        with self._lock:
            self._failed_files = self._skipped = 0
            self._rests_until = 0.0


_hosts: dict[str, _Host] = {}
_hosts_lock = threading.Lock()


def _host_of(uri: str) -> _Host:
    try:
        name = urlsplit(uri).netloc.lower()
    except ValueError:
        name = ""
    with _hosts_lock:
        return _hosts.setdefault(name, _Host())


def forget_hosts() -> None:
    """Forget the state of all servers."""
    with _hosts_lock:
        _hosts.clear()


def _seconds(retry_after: str | None) -> float | None:
    """The pause of a `Retry-After` header, which is a number of seconds or a date."""
    if not retry_after:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), 1e9)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
