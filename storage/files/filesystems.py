"""File system access by URI, local or remote, with the errors of libraries translated.

A URI is a string that is valid UTF-8, so that it fits into Arrow and JSON:

- a local file is its plain absolute path (`/data/a b.jpg`), or, where its name is not valid UTF-8,
  a percent-encoded `file:///` URL; `local_uri` and `local_path` convert;
- anything else (`s3://bucket/key`, …) is read through fsspec, where `storage.access.protocols` lets
  it.

Local files are read directly; they never pass through fsspec.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast
from urllib.parse import quote, unquote_to_bytes

import fsspec
from fsspec.implementations.local import LocalFileSystem

from storage.access.credentials import masked, refuse_password
from storage.access.protocols import is_supported, protocol_of
from storage.access.roots import (
    OutsideRootsError,
    is_address_outside,
    is_path_outside,
    outside,
    refuse_address,
    refuse_path,
)
from storage.errors.exceptions import ImageRejected, StorageError, ZutisError
from storage.files.file_kinds import is_web
from storage.files.regular_files import open_regular
from storage.web.requests import (
    TooLongError,
    new_session,
    open_web_file,
    read_web_file,
    read_web_range,
    web_facts,
)
from storage.web.retries import TransientWebError

# Errors of these libraries are about the access to the file, such as refused credentials, and not
# about the file itself.
# fmt: off
_REMOTE_LIBRARIES = frozenset({
    "botocore", "aiobotocore", "aiohttp", "requests", "urllib3", "httpx", "gcsfs", "google",
    "adlfs", "azure", "paramiko", "smbprotocol", "huggingface_hub",
})
# fmt: on
# Errors that a retry would get again.
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_FULL = "the disk is full; free some space, or use another disk"
_ADVICE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: "the disk is read-only; use another place",
    errno.EISDIR: "it is a folder, not a file",
}

_S3_TRIES = 7

# The errors of s3fs for a server's "internal error" and "slow down" after its retries: nothing is
# wrong with the file.
_SERVER_FAILURES = (getattr(errno, "EREMOTEIO", 121), errno.EBUSY)  # the first is Linux's


# S3's answers that are about the credentials, and the same for every file.
# fmt: off
_REFUSED_KEYS = frozenset({
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken",
    "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired",
})
# fmt: on


class MissingFileError(StorageError):
    """The file does not exist."""


class RefusedError(StorageError):
    """A full or read-only disk, or missing permission: a retry does not help."""


class ShortReadError(StorageError):
    """The file ends before the bytes that were asked for."""


class UnreachableError(StorageError):
    """The file system itself can't be used: no connection, no credentials, no package for it."""


class TransientError(UnreachableError):
    """A transient error of a web server; another run may read the file.

    Attributes:
        reason: one of `reject_reasons.TRANSIENT`.
    """

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:  # what parts raise comes back from other processes
        return type(self), (str(self), self.reason)


def is_local(uri: str) -> bool:
    """Whether `uri` is a local file's: a plain path, or a `file://` URL."""
    return uri.startswith("/") or "://" not in uri or uri[:7].lower() == "file://"


def local_path(uri: str) -> str:
    """The local path of a local URI; a name that is not UTF-8 comes back with surrogates.

    The result can be given to `open` and `os.stat`; undoes `local_uri`. A relative path stays
    relative.
    """
    if uri[:7].lower() != "file://":
        return uri
    path = uri[7:]
    if path.lower().startswith("localhost/"):
        path = path[len("localhost") :]
    return os.fsdecode(unquote_to_bytes(path))


def local_uri(path: str) -> str:
    """The URI of a local path, made absolute without following symbolic links."""
    # os.path and not pathlib: this runs once per file of a corpus, and pathlib keeps `..`.
    absolute = os.path.abspath(path)  # noqa: PTH100
    try:
        absolute.encode("utf-8")
    except UnicodeEncodeError:
        return "file://" + quote(_name_bytes(absolute))
    return absolute


def utf8_place(spec: str) -> str:
    """A path as a user has typed it, in UTF-8: a `file://` URL where its bytes are none."""
    try:
        spec.encode("utf-8")
    except UnicodeEncodeError:
        return local_uri(spec) if is_local(spec) else spec
    return spec


def _name_bytes(path: str) -> bytes:
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:  # half a pair of surrogates, as JSON can have it
        return path.encode("utf-8", "surrogatepass")


def parent_uri(uri: str) -> str:
    """The URI of the folder that the file or folder is in; that of a root is the root itself."""
    if is_local(uri):
        return local_uri(posixpath.dirname(local_path(uri)))
    protocol, path = _split(uri)
    return f"{protocol}{path.rstrip('/').rpartition('/')[0]}"


def join_uri(folder: str, name: str) -> str:
    """The URI of `name`, a relative path that may hold slashes, in `folder`."""
    if is_local(folder):
        return local_uri(posixpath.join(local_path(folder), name))
    protocol, path = _split(folder)
    return f"{protocol}{posixpath.join(path, name)}"


def pattern_folder(pattern: str) -> str:
    """The URI of the innermost folder that a pattern with wildcards or braces names in full."""
    protocol, path = ("", local_path(pattern)) if is_local(pattern) else _split(pattern)
    fixed = re.match(r"[^*?\[{]*", path)
    assert fixed is not None  # it may be empty
    folder = fixed.group().rpartition("/")[0]
    return f"{protocol}{folder}" if protocol else local_uri(folder or "/")


def name_within(folder: str, uri: str) -> str:
    """The path from `folder` to a file in it, with slashes; undoes `join_uri`.

    Of a file that is elsewhere, its path without the protocol.
    """
    if is_local(folder) and is_local(uri):
        path, start = local_path(uri), local_path(folder)
    else:
        path, start = _split(uri)[1], _split(folder)[1]
    return path.removeprefix(f"{start.rstrip('/')}/")


def _split(uri: str) -> tuple[str, str]:
    """Protocol with `://`, and path; a web address loses its query."""
    protocol, separator, path = uri.partition("://")
    return protocol + separator, path.partition("?")[0] if is_web(uri) else path


def display(uri: str) -> str:
    """`uri` for one line of a message: control characters and surrogates are escaped, and secrets
    masked."""
    shown = uri if is_local(uri) else masked(uri)
    return shown if shown.isprintable() else ascii(shown)[1:-1]


def is_outside(uri: str) -> bool:
    """Whether the file or folder lies outside the roots, as `storage.access.roots` has them."""
    return is_path_outside(local_path(uri)) if is_local(uri) else is_address_outside(uri)


def refuse_outside(uri: str) -> None:
    """Raises OutsideRootsError where `is_outside`."""
    if is_outside(uri):
        raise outside(uri)


def resolve(uri: str) -> tuple[Any, str]:
    """The fsspec file system of `uri` and the path in it.

    Raises:
        ConfigError: the address carries a password, or lies outside the roots.
        UnreachableError: its protocol is none of `PROTOCOLS`, or the package for it is missing.
    """
    if is_local(uri):
        refuse_path(local_path(uri))
        return LocalFileSystem(), local_path(uri)
    refuse_password(uri)
    refuse_address(uri)
    if not is_supported(uri):
        raise UnreachableError(
            f"The address {display(uri)} is of a kind that is neither read nor written: name a "
            "local path, or an address that begins with s3://, gs://, az://, http:// or https://; "
            "unpack archives first."
        )
    protocol = protocol_of(uri)
    uri = f"{protocol}://{uri.partition('://')[2]}"
    with translated_errors("open", uri):
        try:
            # Not fsspec's `url_to_fs`, which takes `::` in an address for a chain of file systems.
            file_system_class = fsspec.get_filesystem_class(protocol)
            options = file_system_class._get_kwargs_from_urls(uri) | _options(uri)
            file_system = fsspec.filesystem(protocol, **options)
            path = file_system_class._strip_protocol(uri)
            if _is_s3(uri):  # s3fs's retries of a body that has ended early; five by default
                file_system.retries = _tries()
        except ValueError as error:  # an address that can't be parsed
            raise UnreachableError(f"Could not open {display(uri)}: {_line(error)}.") from error
        return file_system, cast(str, path)


def _is_s3(uri: str) -> bool:
    return uri.startswith(("s3://", "s3a://"))


def _options(uri: str) -> dict[str, Any]:
    """Options with which a request survives a failing server, or ends in time.

    By default botocore gives up a request after the fifth try, which one in 240 reaches where a
    third of all fail. With these options it gives up after about half a minute without an answer.
    """
    if _is_s3(uri) and "AWS_MAX_ATTEMPTS" not in os.environ:
        again = {"mode": "standard", "max_attempts": _tries() - 1}
        return {"config_kwargs": {"retries": again}}
    return {"get_client": new_session} if is_web(uri) else {}


def _tries() -> int:
    """Tries of a request to an S3 server."""
    given = os.environ.get("AWS_MAX_ATTEMPTS", "")
    return max(int(given), 1) if re.fullmatch("[0-9]{1,4}", given) else _S3_TRIES


def open_binary(uri: str) -> BinaryIO:
    """The file's bytes as a seekable stream, to be closed by the caller.

    Raises:
        StorageError: as `translated_errors`; reading from the stream raises foreign errors.
    """
    with translated_errors("open", uri):
        if is_local(uri):
            return cast(BinaryIO, open_regular(local_path(uri)))
        file_system, path = resolve(uri)
        if is_web(uri):
            return cast(BinaryIO, open_web_file(file_system, path))
        return cast(BinaryIO, file_system.open(path, "rb"))


def describe(uri: str) -> dict[str, Any]:
    """fsspec's description of a remote file; on a web server only `size` (None if it is not stated)
    and `ETag`.

    Raises:
        StorageError: as `translated_errors`.
    """
    with translated_errors("read", uri):
        file_system, path = resolve(uri)
        if not is_web(uri):
            return dict(file_system.info(path))
        facts = web_facts(file_system, path)
        return {"size": facts.size if facts.size >= 0 else None, "ETag": facts.etag}


def read_bytes(uri: str, *, at_most: int | None = None) -> bytes:
    """The whole file.

    Args:
        uri: of the file.
        at_most: of a remote file, the bytes that are wanted: it ends the transfer.

    Raises:
        TooLongError: the remote file has more than `at_most` bytes.
        StorageError: as `translated_errors`.
    """
    with translated_errors("read", uri):
        if is_local(uri):
            with open_regular(local_path(uri)) as file:
                return file.read()
        file_system, path = resolve(uri)
        if is_web(uri):
            return read_web_file(file_system, path, at_most=at_most)
        if at_most is None:
            return cast(bytes, file_system.cat_file(path))
        # A range takes s3fs one request; before it reads a whole object it asks for its size.
        data = read_remote_range(uri, 0, at_most + 1)
        if len(data) > at_most:
            raise TooLongError(f"it has more than {at_most} bytes")
        return data


def read_range(uri: str, offset: int, length: int) -> bytes:
    """Exactly `length` bytes from byte `offset` on (both >= 0).

    Raises:
        ShortReadError: the file ends earlier.
        StorageError: as `translated_errors`.
    """
    if offset < 0 or length < 0:
        raise ValueError(f"a byte range needs offset and length >= 0, not {offset} and {length}")
    with translated_errors("read", uri):
        if is_local(uri):
            with open_regular(local_path(uri)) as file:
                # No more memory than the file can fill.
                length_here = min(length, max(os.fstat(file.fileno()).st_size - offset, 0))
                data = os.pread(file.fileno(), length_here, offset)
                # One call returns at most some 2 GiB, and fewer where a signal interrupts it.
                while 0 < len(data) < length_here and (
                    more := os.pread(file.fileno(), length_here - len(data), offset + len(data))
                ):
                    data += more
        elif length == 0:
            data = b""  # HTTP has no empty range
        else:
            data = read_remote_range(uri, offset, offset + length)
    if len(data) != length:
        raise ShortReadError(
            f"Could not read {length} bytes at {offset} of {display(uri)}: the file ends after "
            f"{len(data)} of them; it was changed or cut since it was listed."
        )
    return data


def read_remote_range(uri: str, start: int, end: int) -> bytes:
    """Bytes `start` to `end` of a remote file, fewer where it ends before; errors are foreign."""
    file_system, path = resolve(uri)
    if is_web(uri):
        return read_web_range(file_system, path, start, end)
    try:
        return cast(bytes, file_system.cat_file(path, start=start, end=end))
    except OSError as error:
        # S3 refuses a range of which it has no byte, where others send none.
        if _s3_answer(error)[0] not in ("InvalidRange", "416"):
            raise
        return b""


def list_folder(uri: str, *, detail: bool = False) -> list[Any]:
    """The present content of a folder, files of other machines since the last listing included.

    Args:
        uri: of the folder; where there is none, the list is empty.
        detail: fsspec's description of each entry, which takes longer, instead of its path.

    Raises:
        StorageError: it can't be listed.
    """
    with translated_errors("list", uri):
        file_system, path = resolve(uri)
        file_system.invalidate_cache(path)
        try:
            return list(file_system.ls(path, detail=detail))
        except (FileNotFoundError, NotADirectoryError):
            return []


def exists(uri: str) -> bool:
    """Whether a file or folder is at `uri`; always False outside the roots.

    Raises:
        StorageError: as `translated_errors`, except that a missing file is an answer.
    """
    if is_outside(uri):
        return False
    try:
        with translated_errors("look for", uri):
            if is_local(uri):
                os.stat(local_path(uri))  # noqa: PTH116 - see local_uri
                return True
            file_system, path = resolve(uri)
            if is_web(uri):
                web_facts(file_system, path)
                return True
            return bool(file_system.exists(path))
    except (MissingFileError, OutsideRootsError):  # the latter of a server that redirects
        return False


@contextmanager
def translated_errors(what: str, uri: str) -> Iterator[None]:
    """Turns errors of file systems into one-sentence `StorageError`s; lets all others through.

    Args:
        what: the verb for the message "Could not … PATH".
        uri: of the file or folder.

    Raises:
        MissingFileError: there is no such file.
        UnreachableError: the file system can't be used at all.
        RefusedError: the disk is full or read-only, or permission is denied.
        StorageError: something else went wrong there.
    """
    try:
        yield
    except (ZutisError, ImageRejected, TooLongError):
        raise
    except Exception as error:
        translated = _translate(f"Could not {what} {display(uri)}", error)
        if translated is None:
            raise
        raise translated from error


def _translate(failure: str, error: Exception) -> StorageError | None:
    if isinstance(error, ImportError):
        return UnreachableError(
            f"{failure}: it needs a Python package that is not installed "
            f"({_line(error)}); install that package beside zutis."
        )
    if isinstance(error, ConnectionError | TimeoutError):
        return UnreachableError(f"{failure}: no connection ({_line(error)}).")
    if type(error).__module__.partition(".")[0] in _REMOTE_LIBRARIES:
        return UnreachableError(
            f"{failure}: {_line(error)} (check address, credentials and network)."
        )
    if isinstance(error, OSError):
        return _translate_os_error(failure, error)
    # A null byte, or half of a surrogate pair that stands for no byte of a name.
    if isinstance(error, UnicodeEncodeError) or (
        isinstance(error, ValueError) and "null byte" in str(error)
    ):
        return MissingFileError(f"{failure}: no file can have this name.")
    return None


def _translate_os_error(failure: str, error: OSError) -> StorageError:
    if isinstance(error, TransientWebError):
        return TransientError(f"{failure}: {_line(error)}; try again later.", error.reason)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MissingFileError(f"{failure}: it does not exist.")
    if error.errno == errno.ENAMETOOLONG:
        return MissingFileError(f"{failure}: no file can have a name as long as this.")
    code, status = _s3_answer(error)
    if error.errno in _SERVER_FAILURES or status >= 500 or status in (408, 429):
        return UnreachableError(f"{failure}: its server fails ({_line(error)}).")
    if code in _REFUSED_KEYS:
        return UnreachableError(f"{failure}: {_line(error)} (check the credentials and the clock).")
    advice = "permission denied; check its owner and its mode"  # s3fs sets no errno
    if not isinstance(error, PermissionError):
        advice = _ADVICE.get(error.errno or 0) or _line(error)
    refused = isinstance(error, PermissionError) or error.errno in _REFUSALS
    return (RefusedError if refused else StorageError)(f"{failure}: {advice}.")


def _s3_answer(error: OSError) -> tuple[str, int]:
    """Code and status of the answer that s3fs has made an error of; empty and 0 for others."""
    answer = getattr(error.__cause__, "response", None)
    if not isinstance(answer, dict):
        return "", 0
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(answer.get("Error", {}).get("Code", "")), int(status)


def _line(error: Exception) -> str:
    """The error's text on one line, without a final stop and without secrets; its type where it
    has no text."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return masked(" ".join(text.split()).rstrip(".")) or type(error).__name__
