"""The temporary Prefect server of a command: started for it, and ended with it.

Prefect would start one by itself. But that server would receive our terminal's signals, outlive a
killed command and choose a random port, and Prefect would wait for it through the user's proxy.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from typing import IO, Final

from flows.prefect_server.home import note, prefect_home, temporary_home
from flows.processes.attached import comes_up, start_attached, stop_attached
from storage.errors.exceptions import ZutisError

_STARTUP_SECONDS: Final = 300.0  # a migration on a slow disk takes a minute; a start 5 to 20 s
_STOP_SECONDS: Final = 5.0
_HOST: Final = "127.0.0.1"
_ERROR: Final = re.compile(r"[\w.]+(Error|Exception)\b")


class ServerEndedError(ZutisError):
    """A server has ended before it answered."""


class TemporaryServer:
    """A Prefect server without its UI, on a free port.

    It starts in the background; meanwhile the caller can import the flow's modules.

    Args:
        environment: variables besides this process's.

    Attributes:
        api_url: URL of its API, such as http://127.0.0.1:41234/api.

    Raises:
        ZutisError: the server can't be started.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment or {}
        with socket.socket() as listener:
            listener.bind((_HOST, 0))
            self.api_url = f"http://{_HOST}:{listener.getsockname()[1]}/api"
            self._output = _log()
            self._process = self._start(listener.fileno())

    def wait(self) -> None:
        """Wait until the server answers.

        Raises:
            ZutisError: the server has ended, or does not answer within minutes.
        """
        import httpx  # here, since every command would wait for it

        with httpx.Client(trust_env=False, timeout=5.0) as client:  # no proxy leads to ourselves

            def is_up() -> bool:
                with contextlib.suppress(httpx.HTTPError):
                    return client.get(f"{self.api_url}/health").status_code == httpx.codes.OK
                return False

            if comes_up(self._process, is_up, _STARTUP_SECONDS):
                return
        if self._process.returncode is not None:
            raise ServerEndedError(
                "The temporary Prefect server ended with exit code "
                f"{self._process.returncode} before it answered: {self.last_words()}"
            )
        raise ZutisError(
            f"The temporary Prefect server did not answer at {self.api_url} within "
            f"{_STARTUP_SECONDS:.0f} s: {self.last_words()}"
        )

    def stop(self) -> None:
        """End the server."""
        stop_attached(self._process, _STOP_SECONDS)

    def _start(self, listener: int) -> subprocess.Popen[bytes]:
        arguments = ["--factory", "prefect.server.api.server:create_app", "--fd", str(listener)]
        arguments += ["--log-level", "error", "--lifespan", "on"]
        ours = {
            "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "ERROR",  # read if it does not start
        }
        try:
            return start_attached(
                "uvicorn",
                arguments,
                output=self._output,
                environment={**os.environ, **ours, **self._environment},
                pass_fds=[listener],
            )
        except OSError as error:
            raise ZutisError(f"A Prefect server can't be started: {error}.") from error

    def last_words(self) -> str:
        """Why the server ended: the last error in its output, or the last line."""
        if isinstance(self._output, int):
            return "its output could not be kept, since there is no folder for temporary files."
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if _ERROR.match(line)]
        return [*lines[-1:], *errors][-1].strip() if lines else "it said nothing."


def _log() -> IO[bytes] | int:
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return subprocess.DEVNULL


_servers: list[TemporaryServer] = []  # one, or a second in place of one that did not start


def start_server() -> None:
    """Start the server of this process unless it is running; Prefect uses it from then on.

    Raises:
        ZutisError: the server can't be started.
    """
    if not _servers:
        _start_one({})


def await_server() -> None:
    """Wait until the server of this process answers, if there is one.

    A server that ends instead, most likely because of Prefect's database, is replaced by one with
    a new database.

    Raises:
        ZutisError: the second server has ended, too, or none answers within minutes.
    """
    if not _servers:
        return
    try:
        _servers[-1].wait()
    except ServerEndedError:
        if len(_servers) > 1:
            raise
        database = temporary_home() / "prefect.db"
        note(
            f"Prefect can't use its database in {prefect_home()} ({_servers[-1].last_words()}); "
            "this command has one of its own. Move prefect.db away to have a new one made."
        )
        _start_one({"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}"})
        _servers[-1].wait()


def _start_one(environment: Mapping[str, str]) -> None:
    server = TemporaryServer(environment)
    atexit.register(server.stop)
    _servers.append(server)
    _use(server.api_url)


def _use(api_url: str) -> None:
    """Point Prefect in this process to the server.

    Prefect takes the address from an environment variable, which is removed again: programs that
    we start would inherit it, and take the server for one that the user has configured.
    """
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_API_URL"] = api_url
    refresh_global_settings_context()
    del os.environ["PREFECT_API_URL"]


def is_ours(api_url: str) -> bool:
    """Whether the address is that of this process's temporary server, which users don't know."""
    return any(server.api_url == api_url for server in _servers)
