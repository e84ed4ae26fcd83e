"""Reading from web servers: whole files, byte ranges and sizes, each with a timeout of its own.

fsspec's http file system does not tell a missing file from a failing server, and reads a server
that sends a byte a minute to the end. Only its session is used here, with all that is configured
for it.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

from fsspec.asyn import sync

from storage.access.roots import refuse_address
from storage.errors.reject_reasons import CONNECTION_LOST, TIMED_OUT
from storage.web.retries import (
    CONNECT_SECONDS,
    READ_SECONDS,
    TransientWebError,
    transfer_seconds,
    transient_error_of_status,
    with_retries,
)

if TYPE_CHECKING:
    import aiohttp

_Answer = TypeVar("_Answer")

_CHUNK_BYTES: Final = 1 << 18
_BUFFER_BYTES: Final = 1 << 22
# What a long transfer has to bring within the time that an image may take, so that it goes on.
_LEAST_BYTES: Final = 1 << 20

_PART: Final = 206
_NO_SUCH_RANGE: Final = 416
_NOT_THERE: Final = (404, 410)


class TooLongError(OSError):
    """The file has more bytes than are wanted."""


@dataclass(frozen=True)
class WebFacts:
    """A server's description of a file.

    Attributes:
        size: bytes; -1 where it is not stated.
        ranges: whether parts of the file can be asked for.
        etag: a value that changes with the file's content; None where it is not stated.
    """

    size: int
    ranges: bool
    etag: str | None


async def new_session(**settings: Any) -> aiohttp.ClientSession:
    """The session of fsspec's http file system: without its limit of five minutes on all that is
    read, and of 100 requests at a time."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS
    )
    settings = {"timeout": timeout, **settings}
    redirects = aiohttp.TraceConfig()
    redirects.on_request_redirect.append(_refuse_redirect)
    settings["trace_configs"] = [*settings.get("trace_configs", ()), redirects]
    # Requests are limited by host, in `storage.web.retries`.
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), **settings)


async def _refuse_redirect(_session: Any, _context: Any, redirect: Any) -> None:
    """Raises OutsideRootsError where a server sends a request out of the roots."""
    import yarl

    headers = redirect.response.headers
    target = headers.get("Location") or headers.get("URI") or ""
    refuse_address(str(redirect.response.url.join(yarl.URL(target))))


def read_web_file(file_system: Any, uri: str, *, at_most: int | None = None) -> bytes:
    """The whole file, within `transfer_seconds`.

    Raises:
        FileNotFoundError: the server answers that it doesn't exist, or is gone.
        TooLongError: it has more than `at_most` bytes.
        TransientWebError: the retries of a transient error failed.
        OSError: the server refuses it.
    """
    target = io.BytesIO()
    _receive(file_system, uri, target, at_most=at_most, whole=True)
    return target.getvalue()


def read_web_range(file_system: Any, uri: str, start: int, end: int) -> bytes:
    """Bytes `start` to `end`, fewer where the file ends before; raises as `read_web_file`."""

    async def ask() -> bytes:
        headers = {"Range": f"bytes={start}-{end - 1}"}
        data = bytearray()
        async with _asked(file_system, uri, headers) as (response, _):
            if response.status == _NO_SUCH_RANGE:
                return b""
            skipped = 0 if response.status == _PART else start  # a server that knows no ranges
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                data += chunk[skipped:]
                skipped -= min(skipped, len(chunk))
                if len(data) >= end - start:
                    break
        return bytes(data[: end - start])

    return _with_retries(file_system, uri, ask)


def web_facts(file_system: Any, uri: str) -> WebFacts:
    """The description of a file, by a request for its first byte; raises as `read_web_file`."""

    async def ask() -> WebFacts:
        async with _asked(file_system, uri, {"Range": "bytes=0-0"}) as (response, _):
            if response.status in (_PART, _NO_SUCH_RANGE):  # an empty file has no first byte
                size = response.headers.get("Content-Range", "").rpartition("/")[2]
            else:
                size = response.headers.get("Content-Length", "")
            known = size.isascii() and size.isdigit()
            return WebFacts(
                size=int(size) if known else -1,
                ranges=response.status == _PART,
                etag=response.headers.get("ETag"),
            )

    return _with_retries(file_system, uri, ask)


def open_web_file(file_system: Any, uri: str) -> IO[bytes]:
    """The file as a seekable stream, read by ranges; copied to a local disk first where the server
    has none. Raises as `read_web_file`, also when read."""
    facts = web_facts(file_system, uri)
    if facts.ranges and facts.size >= 0:
        return io.BufferedReader(_Ranges(file_system, uri, facts.size), _BUFFER_BYTES)
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        _receive(file_system, uri, copy, whole=False)
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy


class _Ranges(io.RawIOBase):
    """A file on a web server, asked for range by range."""

    def __init__(self, file_system: Any, uri: str, size: int) -> None:
        self._file_system, self._uri, self._size, self._place = file_system, uri, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        # No more at a time than comes within the time of one request.
        end = min(self._place + min(len(buffer), _BUFFER_BYTES), self._size)
        if end <= self._place:
            return 0
        data = read_web_range(self._file_system, self._uri, self._place, end)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _receive(
    file_system: Any, uri: str, target: IO[bytes], *, at_most: int | None = None, whole: bool
) -> None:
    """Write the file's bytes to `target`, whose content they become.

    Args:
        at_most: bytes that are wanted.
        whole: whether the time that an image may take is for all of the file; else it is for each
            megabyte.
    """

    async def ask() -> None:
        target.seek(0)
        target.truncate()
        received, mark = 0, _LEAST_BYTES
        async with _asked(file_system, uri, {}) as (response, deadline):
            announced = response.content_length or 0
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                received += len(chunk)
                if at_most is not None and max(announced, received) > at_most:
                    raise TooLongError(f"it has more than {at_most} bytes")
                target.write(chunk)
                if not whole and received >= mark:
                    mark = received + _LEAST_BYTES
                    deadline.reschedule(asyncio.get_running_loop().time() + transfer_seconds())

    _with_retries(file_system, uri, ask)


def _with_retries(file_system: Any, uri: str, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
    def once() -> _Answer:
        answer: _Answer = sync(file_system.loop, ask)
        return answer

    return with_retries(uri, once)


@asynccontextmanager
async def _asked(
    file_system: Any, uri: str, headers: Mapping[str, str]
) -> AsyncIterator[tuple[aiohttp.ClientResponse, asyncio.Timeout]]:
    """A response, while the block reads it, and the time by which it has to be read.

    Raises:
        OSError: as `read_web_file`, for errors before and in the block.
    """
    settings = dict(file_system.kwargs)
    # Lengths and places are those of the file's own bytes.
    plain = {"Accept-Encoding": "identity"}
    settings["headers"] = {**settings.get("headers", {}), **plain, **headers}
    try:
        url = file_system.encode_url(uri)
    except ValueError as error:
        raise OSError(f"it is no web address ({error})") from error
    try:
        session = await file_system.set_session()
        async with asyncio.timeout(transfer_seconds()) as deadline:
            async with session.get(url, **settings) as response:
                _check_status(response)
                yield response, deadline
    except Exception as error:
        meaning = _meaning(error)
        if meaning is error:
            raise
        raise meaning from error


def _check_status(response: aiohttp.ClientResponse) -> None:
    status = response.status
    if status in _NOT_THERE:
        raise FileNotFoundError(f"its server answers {status}")
    if error := transient_error_of_status(status, response.headers.get("Retry-After")):
        raise error
    if status >= 400 and status != _NO_SUCH_RANGE:
        raise OSError(f"its server answers {status} {response.reason or ''}".rstrip())


def _meaning(error: Exception) -> Exception:
    """The error to raise for a request's error; itself where it is none of a request."""
    import aiohttp

    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if isinstance(error, TimeoutError):
        return _too_slow(error)
    if isinstance(error, aiohttp.TooManyRedirects):
        return OSError("its server redirects without end")
    if isinstance(error, aiohttp.InvalidURL | UnicodeError):  # the latter of a host's name
        return OSError(f"it is no web address ({text})")
    if isinstance(error, aiohttp.ClientConnectorDNSError | aiohttp.ClientSSLError):
        return TransientWebError(CONNECTION_LOST, text, retry=False)  # a retry would fail, too
    if isinstance(error, aiohttp.ClientError | ConnectionError):
        return TransientWebError(CONNECTION_LOST, f"the connection broke ({text})")
    return error


def _too_slow(error: TimeoutError) -> TransientWebError:
    import aiohttp

    if isinstance(error, aiohttp.ServerTimeoutError):
        text = f"no connection in {CONNECT_SECONDS:g} s, or not a byte for {READ_SECONDS:g} s"
        return TransientWebError(TIMED_OUT, text)
    text = f"it takes longer than {transfer_seconds():g} s"
    return TransientWebError(TIMED_OUT, text, retry=False)
