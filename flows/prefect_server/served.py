"""The Prefect server of `zutis serve`: the one that answers, or a child process."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from flows.processes.attached import comes_up, start_attached, stop_attached
from storage.errors.exceptions import ConfigError, ZutisError
from storage.errors.numbers import shown

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 4200

_STARTUP_SECONDS = 300.0  # a migration on a slow disk takes a minute; a start 10 to 20 s
_STOP_SECONDS = 20.0
_RESTART_SECONDS = 3.0
_LAST_PORT = 65_535
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,31}")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?")
_ALL_INTERFACES = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised, never chosen


@dataclass(frozen=True)
class Address:
    """The address of a server's API.

    Attributes:
        api_url: such as http://127.0.0.1:4200/api.
        host: to listen on, if the server can be started here; empty if it is elsewhere.
        port: likewise.
    """

    api_url: str
    host: str = ""
    port: int = 0

    @property
    def ui_url(self) -> str:
        return self.api_url.removesuffix("/api")

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)


def choose_address(host: str | None, port: int | None, configured: str | None) -> Address:
    """The requested address, else the configured one, else the default.

    Args:
        host: to listen on; None if not given.
        port: likewise.
        configured: Prefect's own setting of the API's URL, if there is one.

    Raises:
        ConfigError: the configured URL, the host or the port is invalid.
    """
    if configured and host is None and port is None:
        return _configured_address(configured.rstrip("/"))
    host, port = host or DEFAULT_HOST, DEFAULT_PORT if port is None else port
    _check_listener(host, port)
    reached = _ALL_INTERFACES.get(host, host)
    reached = f"[{reached}]" if ":" in reached else reached
    return Address(f"http://{reached}:{port}/api", host, port)


def _check_listener(host: str, port: int) -> None:
    if not 1 <= port <= _LAST_PORT:
        raise ConfigError(f"port is {shown(port)}: choose one from 1 to {_LAST_PORT}.")
    if _IPV6.fullmatch(host):
        with contextlib.suppress(ValueError):
            ipaddress.IPv6Address(host)
            return
    elif _HOST_NAME.fullmatch(host):
        return
    raise ConfigError(f"host is {host!r}: give the name or the address of a network interface.")


def is_loopback(host: str) -> bool:
    """Whether the host is a loopback address, which only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def answers(address: Address) -> bool:
    """Whether a healthy Prefect server answers.

    Raises:
        ConfigError: another program answers.
    """
    import httpx  # here, since every command would wait for it

    try:
        response = httpx.get(f"{address.api_url}/health", timeout=5)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError):  # the latter of a host's name
        return False
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return False
    if response.status_code != httpx.codes.OK or response.text.strip() != "true":
        raise ConfigError(
            f"What answers at {address.api_url} is no Prefect server: choose another port with "
            "--port, or set PREFECT_API_URL to the server's address."
        )
    return True


@contextlib.contextmanager
def running_server(address: Address, log: Path) -> Iterator[bool]:
    """Have a server at the address while the block runs; yields whether it was started here.

    A server that was running before keeps running.

    Args:
        address: of the server.
        log: file that the server's output is appended to.

    Raises:
        ConfigError: a server elsewhere does not answer, or another program does.
        ZutisError: it could not be started.
    """
    if answers(address):
        yield False
        return
    if not address.host:
        raise ConfigError(
            f"No Prefect server answers at {address.api_url}, which PREFECT_API_URL or a profile "
            "names: start it there, or unset PREFECT_API_URL to have one started here."
        )
    process = _start(address, log)
    try:
        _wait(process, address, log)
    except BaseException:
        stop_attached(process, _STOP_SECONDS)
        raise
    child = _Child(process, address, log)
    try:
        yield True
    finally:
        child.stop()


class _Child:
    """A server that was started here, and is restarted if it ends unexpectedly.

    Runs in progress wait for the restart: Prefect's client retries for some minutes.
    """

    def __init__(self, process: subprocess.Popen[bytes], address: Address, log: Path) -> None:
        self._process = process
        self._address = address
        self._log = log
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="server-keeper", daemon=True)
        self._keeper.start()

    def stop(self) -> None:
        self._stopping.set()
        self._keeper.join()
        stop_attached(self._process, _STOP_SECONDS)

    def _keep(self) -> None:
        while not self._stopping.wait(_RESTART_SECONDS):
            if self._process.poll() is not None:
                print(
                    f"The Prefect server ended with exit code {self._process.returncode} and is "
                    f"started again; the end of {self._log} may say why.",
                    file=sys.stderr,
                    flush=True,
                )
                self._process = _start(self._address, self._log)


def _configured_address(api_url: str) -> Address:
    try:
        parts = urlsplit(api_url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"PREFECT_API_URL is {api_url!r}: {error}.") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(
            f"PREFECT_API_URL is {api_url!r}: write one such as http://127.0.0.1:4200/api."
        )
    if parts.scheme == "http" and parts.path == "/api" and port and is_loopback(host):
        return Address(api_url, host, port)
    return Address(api_url)


def _start(address: Address, log: Path) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own: Ctrl-C must reach only us, since our last requests
    need the server."""
    arguments = ["server", "start", "--host", address.host, "--port", str(address.port)]
    arguments += ["--log-level", "WARNING"]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return start_attached(
                "prefect",
                arguments,
                output=output,
                environment={**os.environ, "PREFECT_API_URL": address.api_url},
            )
    except OSError as error:
        raise ZutisError(f"The Prefect server can't be started: {error}.") from error


def _wait(process: subprocess.Popen[bytes], address: Address, log: Path) -> None:
    if comes_up(process, lambda: answers(address), _STARTUP_SECONDS):
        return
    if process.returncode is not None:
        raise ZutisError(
            f"The Prefect server ended with exit code {process.returncode} before it answered "
            f"at {address.ui_url}: the end of {log} says why."
        )
    raise ZutisError(
        f"The Prefect server did not answer at {address.ui_url} within {_STARTUP_SECONDS:.0f} s: "
        f"look at {log}."
    )
