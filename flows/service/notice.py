"""The file in which a running `zutis serve` leaves the server's address for `prefect`.

It lies in Prefect's own home folder, and holds a URL of this machine and no secret.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from flows.prefect_server.home import prefect_home
from flows.prefect_server.served import is_loopback

_NAME = "zutis-serve.url"
_CONNECT_SECONDS = 0.5


@contextlib.contextmanager
def notice(api_url: str) -> Iterator[None]:
    """Keep the address in the file while the block runs."""
    path = prefect_home() / _NAME
    path.write_text(api_url, encoding="utf-8")
    try:
        yield
    finally:
        if _text(path) == api_url:  # another `zutis serve` may have written its own since
            path.unlink(missing_ok=True)


def read_notice() -> str | None:
    """The API's URL of a `zutis serve` that runs on this machine; None if there is none.

    A file that a killed process left behind is ignored: a server has to listen at the address.
    """
    api_url = _text(prefect_home() / _NAME)
    try:
        parts = urlsplit(api_url)
        host, port = parts.hostname or "", parts.port or 0
        if parts.scheme != "http" or not is_loopback(host):
            return None
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except (OSError, ValueError):
        return None
    return api_url


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
