"""How long a web server is borne with: pauses, tries, and what one host is asked at a time.

A request meets what is wrong with the file (it is not there, it may not be read) or trouble that
may pass: no answer in time, too many requests, an error of the server, a connection that broke.
The latter is tried again with pauses, as long as the server asks for where it says so.
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
SILENCE_SECONDS: Final = 30.0
"""For a connection, and without a byte: of headers, too."""

AT_A_TIME: Final = 8
"""Requests to one host that this process has open."""

_PAUSES: Final = (1.0, 4.0, 15.0)
"""Seconds before each further try, where the server names none."""

_TRIES_AFTER_SILENCE: Final = 2  # each takes half a minute
_LONGEST_PAUSE: Final = 120.0
"""A server that asks for more is not asked again in this run before that time."""

_GIVEN_UP: Final = 8
"""Files in a row on which a host was given up, after which it is asked only once for each."""

_REST_SECONDS: Final = 60.0
"""For which such a host is left alone, where each request takes long or is too many."""

_FIRST_PROBE: Final = 16
"""Of the files that are not asked for meanwhile, this one is, and the 32nd, the 64th and so on: or
a few files that are never sent would hide all behind them, in each run anew."""

_clock: Callable[[], float] = time.monotonic
_sleep: Callable[[float], None] = time.sleep


class WebTroubleError(OSError):
    """A web server's trouble that may pass: nothing that is wrong with the file.

    Attributes:
        reason: one of `reject_reasons.PASSING`.
        pause: seconds that the server asks for; None if it does not.
        again: whether another try may help at once.
    """

    def __init__(
        self, reason: str, text: str, *, pause: float | None = None, again: bool = True
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.pause = pause
        self.again = again


def transfer_seconds() -> float:
    """The longest that the transfer of one image may take, headers, redirects and all: 120 s, or
    what `ZUTIS_TRANSFER_SECONDS` says."""
    try:
        seconds = float(os.environ.get(TRANSFER_VARIABLE, ""))
    except ValueError:
        return _TRANSFER_SECONDS
    return seconds if 0 < seconds < float("inf") else _TRANSFER_SECONDS


def trouble_of_status(status: int, retry_after: str | None) -> WebTroubleError | None:
    """What a status means that may be another one later; None for all others."""
    reason = {408: TIMED_OUT, 429: TOO_MANY_REQUESTS}.get(status)
    if reason is None and 500 <= status < 600:
        reason = SERVER_ERROR
    if reason is None:
        return None
    return WebTroubleError(reason, f"its server answers {status}", pause=_seconds(retry_after))


def patiently(uri: str, ask: Callable[[], _Answer]) -> _Answer:
    """What `ask` returns, called again with pauses while it raises trouble that may pass soon.

    Args:
        uri: whose host is asked; at most `AT_A_TIME` callers ask it at a time.
        ask: one request, with its answer's body.

    Raises:
        WebTroubleError: it did not pass, or the host is left alone at present.
    """
    host = _host_of(uri)
    tries = 0
    while True:
        host.wait()
        tries += 1
        try:
            with host.places:
                answer = ask()
        except WebTroubleError as trouble:
            pause = host.pause_after(trouble, tries)
            if pause is None:
                host.give_up(trouble)
                raise
            _sleep(pause)
        except OSError:
            host.answered()  # that the file is not there, or may not be read
            raise
        else:
            host.answered()
            return answer


class _Host:
    """What this process knows of a server."""

    def __init__(self) -> None:
        self.places = threading.BoundedSemaphore(AT_A_TIME)
        self._lock = threading.Lock()
        self._given_up = 0
        self._not_before = 0.0  # as the server asks
        self._rests_until = 0.0
        self._skipped = 0
        self._last: WebTroubleError | None = None

    def wait(self) -> None:
        """Wait until the host wants to be asked again.

        Raises:
            WebTroubleError: the last one, where that is longer than anybody waits.
        """
        with self._lock:
            now, last = _clock(), self._last
            pause = self._not_before - now
            skip = pause > _LONGEST_PAUSE
            if not skip and now < self._rests_until:
                self._skipped += 1
                skip = self._skipped < _FIRST_PROBE or self._skipped.bit_count() > 1
        if skip and last is not None:
            raise WebTroubleError(last.reason, f"{last}, and its server is not asked again so soon")
        if pause > 0:
            _sleep(min(pause, _LONGEST_PAUSE))

    def pause_after(self, trouble: WebTroubleError, tries: int) -> float | None:
        """Seconds until the next try; None for none."""
        with self._lock:
            if trouble.pause is not None:  # for whoever asks this host
                self._not_before = max(self._not_before, _clock() + trouble.pause)
            in_trouble = self._given_up >= _GIVEN_UP
        most = len(_PAUSES) + 1 if trouble.reason != TIMED_OUT else _TRIES_AFTER_SILENCE
        if in_trouble or not trouble.again or tries >= most:
            return None
        if trouble.pause is None:
            return _PAUSES[tries - 1]
        return trouble.pause if trouble.pause <= _LONGEST_PAUSE else None

    def give_up(self, trouble: WebTroubleError) -> None:
        with self._lock:
            self._given_up += 1
            self._last = trouble
            if self._given_up >= _GIVEN_UP and trouble.reason in (TIMED_OUT, TOO_MANY_REQUESTS):
                self._rests_until = _clock() + _REST_SECONDS

    def answered(self) -> None:
        with self._lock:
            self._given_up = self._skipped = 0
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
    """Forget what is known of all servers."""
    with _hosts_lock:
        _hosts.clear()


def _seconds(retry_after: str | None) -> float | None:
    """What `Retry-After` asks for, which is a number of seconds or a date."""
    if not retry_after:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), 1e9)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
