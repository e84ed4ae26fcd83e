"""Access control: the roots, set in `ZUTIS_ROOTS`, under which files may be read and written.

Clients of a serving process name paths and addresses, and the files there (tables, COCO files,
links in folders) name others. `zutis serve --root` passes the roots to its runs in the
environment; without roots, nothing is checked here.

A local path is under a root if its real path is, with links and `..` resolved; an address of
another protocol if it begins with the root's protocol, host or bucket, and the parts of its path.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

import platformdirs

from storage.access.credentials import masked
from storage.access.protocols import protocol_of
from storage.errors.exceptions import ConfigError

ROOTS_VARIABLE: Final = "ZUTIS_ROOTS"
"""A JSON list of folders and addresses."""

_PACKAGE = Path(__file__).resolve().parents[2]
# Parts of the package, which users may name without any configuration.
_OWN_FOLDERS: Final = (
    _PACKAGE / "storage" / "weights" / "shipped_weights",
    _PACKAGE / "vocabularies",
)
# As in `storage.weights.files` and `storage.shards.cache`, which read them, too.
_CACHE_VARIABLES: Final = ("ZUTIS_WEIGHTS", "ZUTIS_CACHE")

_SAME_PROTOCOLS: Final = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
# Of a web address; in another, programs differ over which host is meant.
_PLAIN_HOST: Final = re.compile(r"[a-z0-9._-]+(:[0-9]+)?|\[[0-9a-f:.]+\](:[0-9]+)?")
# Folders that the program has made for itself, and how many readers each has now.
_own_now: Counter[str] = Counter()
# Links from the numbers of open files to their real paths, as of now.
_OPEN_FILES: Final = "/proc/self/fd"


class OutsideRootsError(ConfigError):
    """A place that lies outside the roots; nothing there is read or written."""


def as_setting(given: Sequence[str]) -> str:
    """The value of `ZUTIS_ROOTS` for roots as a user writes them.

    Args:
        given: folders, relative ones taken from the working directory, and addresses.

    Raises:
        ConfigError: a folder is none, or an address has parts that lead out of it.
    """
    return json.dumps([_root(text) for text in given], ensure_ascii=False)


def roots() -> tuple[str, ...] | None:
    """Real paths and normal addresses; None where all may be read and written.

    Raises:
        ConfigError: `ZUTIS_ROOTS` is no JSON list of texts.
    """
    setting = os.environ.get(ROOTS_VARIABLE)
    return _parsed(setting) if setting else None


def is_path_outside(path: str | os.PathLike[str], *, written: bool = False) -> bool:
    """Whether a local path may not be used.

    Args:
        path: of a file or folder that need not exist.
        written: whether it is to be written, and not only read: the package's own files and the
            caches may only be read.
    """
    allowed = roots()
    if allowed is None:
        return False
    try:
        real = os.path.realpath(path)
    except ValueError:  # no file can have this name
        return False
    if _is_real_path_inside(real, allowed):
        return False
    return written or not _is_real_path_inside(real, (*_own_places(), *_own_now))


def is_address_outside(uri: str) -> bool:
    """Whether the address of a remote file may not be used."""
    allowed = roots()
    if allowed is None:
        return False
    normal = _normal_address(uri)
    return normal is None or not any(_begins_with(normal, root) for root in allowed)


def refuse_path(path: str | os.PathLike[str], *, written: bool = False) -> None:
    """Raises OutsideRootsError where `is_path_outside`."""
    if is_path_outside(path, written=written):
        raise outside(os.fspath(path))


def refuse_address(uri: str) -> None:
    """Raises OutsideRootsError where `is_address_outside`."""
    if is_address_outside(uri):
        raise outside(uri)


def refuse_open_file(descriptor: int, path: str | os.PathLike[str]) -> None:
    """As `refuse_path`, for an open file: its name may have become a link since the last check.

    Where the system has no links to open files, the name is checked once more.
    """
    if roots() is None:
        return
    there = f"{_OPEN_FILES}/{descriptor}"
    if is_path_outside(there if os.path.lexists(there) else path):
        raise outside(os.fspath(path))


@contextmanager
def own_folder(folder: str) -> Iterator[None]:
    """Allow reading in the folder while the block runs: the program has made it, from files that
    were allowed."""
    real = os.path.realpath(folder)
    _own_now[real] += 1
    try:
        yield
    finally:
        _own_now[real] -= 1
        if not _own_now[real]:
            del _own_now[real]


def open_file_path(descriptor: int, path: str) -> str:
    """A path by which a library opens exactly the file that is open already.

    Args:
        descriptor: of the open file.
        path: its name, which is returned without roots, and on systems without such links.
    """
    there = f"{_OPEN_FILES}/{descriptor}"
    return there if roots() is not None and os.path.lexists(there) else path


def outside(place: str) -> OutsideRootsError:
    """The error for a place outside the roots."""
    allowed = ", ".join(roots() or ()) or "none"
    return OutsideRootsError(
        f"{masked(place)} is outside the folders and addresses that may be used here ({allowed}): "
        "name a place in one of these, or let the server be started with another --root."
    )


@lru_cache(maxsize=8)
def _parsed(setting: str) -> tuple[str, ...]:
    try:
        given = json.loads(setting)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, list) or not all(isinstance(each, str) and each for each in given):
        raise ConfigError(
            f"{ROOTS_VARIABLE} is no JSON list of folders and addresses: write it such as "
            '["/data", "s3://bucket/prefix"].'
        )
    return tuple(dict.fromkeys(map(_normal_root, given)))


def _root(text: str) -> str:
    if not text.strip():
        raise ConfigError("A root has no name: give a folder or an address to --root.")
    root = _normal_root(text)
    if not _is_address(text) and not os.path.isdir(root):  # noqa: PTH112 - names of any length
        raise ConfigError(f"The root {text} is no folder: make it, or correct the path.")
    return root


def _normal_root(text: str) -> str:
    if not _is_address(text):
        path = os.fsdecode(unquote_to_bytes(text[7:])) if text[:7].lower() == "file://" else text
        return os.path.realpath(os.path.expanduser(path))  # noqa: PTH111 - as `user_path`
    normal = _normal_address(text)
    if normal is None:
        raise ConfigError(
            f"The root {masked(text)} is no address that others could begin with: write one such "
            "as s3://bucket/prefix or https://host/folder, without `..` or a query."
        )
    return normal


def _is_address(text: str) -> bool:
    return protocol_of(text) != "file"


def _normal_address(uri: str) -> str | None:
    """One spelling for each address, without query and last slash; None where it may lead to
    another place than its text."""
    protocol = protocol_of(uri)
    rest = uri.partition("://")[2]
    is_web = protocol in _DEFAULT_PORTS
    path = re.split("[?#]", rest, maxsplit=1)[0] if is_web else rest
    host, _, path = path.partition("/")
    if is_web:
        if not uri.isprintable():  # line ends and tabs are taken out, which may leave `..`
            return None
        host = host.lower().removesuffix(_DEFAULT_PORTS[protocol])
        if not _PLAIN_HOST.fullmatch(host):
            return None
    # Servers and libraries resolve these, some of them after decoding.
    decoded = unquote(unquote(path)).replace("\\", "/")
    if any(part in (".", "..") for part in decoded.split("/")):
        return None
    protocol = _SAME_PROTOCOLS.get(protocol, protocol)
    return f"{protocol}://{host}/{path}".rstrip("/")


def _begins_with(address: str, root: str) -> bool:
    return address == root or address.startswith(f"{root}/")


def _is_real_path_inside(real: str, allowed: Sequence[str]) -> bool:
    return any(
        real == root or real.startswith(f"{root.rstrip('/')}/")
        for root in allowed
        if root.startswith("/")
    )


def _own_places() -> tuple[str, ...]:
    named = (os.environ.get(name) for name in _CACHE_VARIABLES)
    return _real_paths((*filter(None, named), platformdirs.user_cache_dir("zutis")))


@lru_cache(maxsize=8)
def _real_paths(caches: tuple[str, ...]) -> tuple[str, ...]:
    folders = [os.path.expanduser(name) for name in caches]  # noqa: PTH111
    return tuple(map(os.path.realpath, [*map(str, _OWN_FOLDERS), *folders]))
