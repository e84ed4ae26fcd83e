"""Errors of the configured Prefect server, as sentences, and whether it can be reached.

Neither Prefect nor its HTTP client is imported to recognise their errors: where such an error was
raised, they have been imported already.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator
from typing import Any, Final

from storage.access.credentials import masked
from storage.errors.exceptions import ConfigError

# For a connection and for the first bytes of an answer. A server that works through a load of runs
# answers within some seconds, too.
_PATIENCE_SECONDS: Final = 15.0
_PROXIES: Final = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_CLIENTS: Final = ("httpx", "httpcore", "anyio")
_ADVICE: Final = (
    "start it there, correct PREFECT_API_URL (or Prefect's profile), or unset it to work without "
    "a server"
)
# Prefect's RuntimeError for any error of its request for the server's version.
_FAILED: Final = re.compile(r"Failed to reach API at (\S+?)/?$")


def require_configured_server() -> None:
    """Check that the Prefect server answers, if the user has configured one.

    Prefect itself waits for minutes if a server accepts connections but sends nothing.

    Raises:
        ConfigError: the address is invalid, or no server answers there.
    """
    from flows.prefect_server.settings import server_is_configured

    if not server_is_configured():
        return
    import httpx
    from prefect.settings import PREFECT_API_URL

    from flows.prefect_server.served import is_loopback

    api_url = str(PREFECT_API_URL.value())
    try:
        url = httpx.URL(api_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(
                f"PREFECT_API_URL is {masked(api_url)!r}: write one such as "
                "http://127.0.0.1:4200/api, or unset it to work without a server."
            )
        httpx.get(
            f"{api_url.rstrip('/')}/health",
            timeout=_PATIENCE_SECONDS,
            trust_env=not is_loopback(url.host),
        )
    except ConfigError:
        raise
    except Exception as error:  # of httpx, of a proxy's address, of a host that is no name
        sentence = _of_causes(error) or _unreachable(api_url, error)
        raise ConfigError(sentence) from error


def refusal_of_server(error: BaseException) -> str | None:
    """A sentence for an error of Prefect's client or for its causes; None for other errors."""
    if sentence := _of_causes(error):
        return sentence
    failed = _FAILED.match(str(error))
    if failed is not None and isinstance(error, RuntimeError):
        *_, first = _causes(error)
        if any(isinstance(cause, ValueError) for cause in _causes(error)):  # no JSON, but a page
            return _no_server(failed.group(1))
        return _unreachable(failed.group(1), first)
    if type(error).__module__.partition(".")[0] in _CLIENTS and _is_of_prefect(error):
        return _unreachable(os.environ.get("PREFECT_API_URL") or "its address", error)
    return None


def _of_causes(error: BaseException) -> str | None:
    """A sentence for the error or the first of its causes that has one; None for others."""
    sentences = map(_refusal, _causes(error))
    return next((sentence for sentence in sentences if sentence), None)


def _refusal(error: BaseException) -> str | None:
    if isinstance(error, ImportError) and "socks" in str(error).lower():
        named = next((name for name in _PROXIES if _proxy(name).startswith("socks")), "a variable")
        return (
            f"{named} names a SOCKS proxy, for which a Python package is missing: install "
            "httpx[socks] beside zutis, name an http:// proxy, or unset it."
        )
    exceptions: Any = sys.modules.get("prefect.exceptions")
    if exceptions is None or not isinstance(error, exceptions.PrefectHTTPStatusError):
        return None
    response = error.response
    where = f"{response.url.scheme}://{response.url.netloc.decode()}"
    if response.status_code in (401, 403):
        return (
            f"The Prefect server at {where} refuses us: set PREFECT_API_AUTH_STRING=USER:PASSWORD "
            "as the server has it."
        )
    if response.status_code == 404 and response.url.path.endswith("/admin/version"):
        return _no_server(where)
    return f"The Prefect server at {where} answered {response.status_code}: look at its log."


def _no_server(where: str) -> str:
    return f"What answers at {masked(where)} is no Prefect server: {_ADVICE}."


def _unreachable(api_url: str, error: BaseException) -> str:
    why = masked(" ".join(str(error).split()).rstrip(".")) or type(error).__name__
    return f"No Prefect server answers at {masked(api_url)} ({why}): {_ADVICE}."


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its chain of causes."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _is_of_prefect(error: BaseException) -> bool:
    """Whether the failed request was Prefect's."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in
               traceback.walk_tb(error.__traceback__)]  # fmt: skip
    askers = [name for name in modules if name.partition(".")[0] not in _CLIENTS]
    return bool(askers) and askers[-1].startswith("prefect.")


def _proxy(name: str) -> str:
    return (os.environ.get(name) or os.environ.get(name.lower()) or "").lower()
