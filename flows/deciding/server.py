"""The server of the page: on this machine's loopback, for the one who started it.

All addresses begin with a secret that only the printed address has, so that neither other pages nor
other users of the machine can read or write. Requests that name another host are refused, which a
page could send that has its name point here; and so is writing from any other page.
"""

from __future__ import annotations

import errno
import hmac
import json
import secrets
import socket
import sys
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from flows.deciding.answers import Answer, Answers, BadRequest, as_json
from storage.errors.exceptions import ConfigError, ZutisError

HOST: Final = "127.0.0.1"

_NAMES: Final = (HOST, "localhost")
_MOST_BYTES: Final = 65_536
_IDLE_SECONDS: Final = 60
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class ReviewServer(ThreadingHTTPServer):
    """Serves the page until it is closed.

    Args:
        answers: to what the page asks.
        port: to listen on; 0: a free one.

    Raises:
        ConfigError: the port is in use, or may not be used.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answers: Answers, port: int) -> None:
        self.answers = answers
        self.secret = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "is in use" if error.errno == errno.EADDRINUSE else "may not be used"
            raise ConfigError(
                f"Port {port} {why}: give another one with --port, or 0 for any that is free."
            ) from error

    def server_bind(self) -> None:
        """Without looking up the machine's name, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = HOST, int(self.server_address[1])

    @property
    def address(self) -> str:
        """Where the page is; who has this address may read and decide."""
        return f"http://{HOST}:{self.server_port}/{self.secret}/"

    @property
    def hosts(self) -> set[str]:
        """What requests may call this server."""
        return {f"{name}:{self.server_port}" for name in _NAMES}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        name = self._name()
        if name is not None:
            query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
            self._answer(partial(self.server.answers.get, name, query))

    def do_POST(self) -> None:
        name = self._name()
        body = None if name is None else self._body()
        if name is not None and body is not None:
            self._answer(partial(self.server.answers.post, name, body))

    def _name(self) -> str | None:
        """What is asked for; None where the request was refused."""
        if self.headers.get("Host", "").lower() not in self.server.hosts:
            self._refuse(421, "This server is for its own machine alone.")
            return None
        first, _, name = urlsplit(self.path).path.lstrip("/").partition("/")
        if not hmac.compare_digest(first.encode(), self.server.secret.encode()):
            self._refuse(403, "Open the address that `zutis review` has printed.")
            return None
        return name

    def _body(self) -> dict[str, Any] | None:
        """The JSON object that was sent; None where the request was refused."""
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site")
        own = {f"http://{host}" for host in self.server.hosts}
        if (origin is not None and origin not in own) or site not in (None, "same-origin"):
            self._refuse(403, "Another page may not decide.")
            return None
        if self.headers.get_content_type() != "application/json":
            self._refuse(415, "JSON is needed.")
            return None
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and int(length) <= _MOST_BYTES):
            self._refuse(413, f"Send at most {_MOST_BYTES:,} bytes, and their number.")
            return None
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            self._refuse(400, "A JSON object is needed.")
            return None
        return body

    def _answer(self, made: partial[Answer | None]) -> None:
        try:
            answer = made()
        except BadRequest as error:
            self._refuse(400, str(error))
        except ConfigError as error:
            self._refuse(422, str(error))
        except ZutisError as error:
            self._refuse(409, str(error))
        except OSError as error:
            self._refuse(409, f"The system refused: {error.strerror or error}.")
        except Exception:
            self._refuse(500, "Something is wrong here: the terminal of `zutis review` says what.")
            raise
        else:
            if answer is None:
                self._refuse(404, "There is no such thing.")
            else:
                self._send(200, answer)

    def _refuse(self, status: int, sentence: str) -> None:
        # What was sent and is not read would be taken for the next request.
        self.close_connection = True
        self._send(status, as_json({"error": sentence}))

    def _send(self, status: int, answer: Answer) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        kept = "private, max-age=86400, immutable" if answer.keeps else "no-store"
        self.send_header("Cache-Control", kept)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.content)

    def version_string(self) -> str:
        return "zutis"

    def log_message(self, *args: object) -> None:
        """Nothing: a line for each thumbnail helps nobody."""
