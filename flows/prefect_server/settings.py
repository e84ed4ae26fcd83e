"""Prefect's settings inside our commands, and whether a server is configured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from flows.prefect_server.home import choose_prefect_home, prefect_home
from flows.prefect_server.temporary import is_ours
from flows.prefect_server.values import import_prefect, may_be_refused

TAG: Final = "zutis"
"""Tag of all our runs: the automation of `zutis serve` handles only runs with this tag."""

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

STARTING_PREFECT: Final = "Starting Prefect"
"""The notice that is shown until a flow's first stage begins."""


def server_is_configured() -> bool:
    """Whether the user has configured a server, in whose UI runs belong."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    if not _has_prefect_profile():
        return False
    import_prefect()
    from prefect.settings import PREFECT_API_URL

    api_url = PREFECT_API_URL.value()
    return bool(api_url) and not is_ours(str(api_url))


def _has_prefect_profile() -> bool:
    """Whether a settings file could name a server; importing Prefect to see takes two seconds."""
    files = (prefect_home() / "profiles.toml", Path("prefect.toml"))
    return any(os.access(path, os.R_OK) for path in files)


def prepare_prefect() -> None:
    """Choose settings of an embedded Prefect, unless the user has chosen others.

    Prefect's log goes to its API; the terminal shows our own progress, and one line for an error.

    Raises:
        ConfigError: no folder can be written for Prefect's files.
    """
    doubtful = may_be_refused()
    choose_prefect_home()
    keep_loopback_from_proxies()
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        # The automation of `zutis serve` marks a run as crashed when these heartbeats stop.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if doubtful:
        import_prefect()


def keep_loopback_from_proxies() -> None:
    """Exempt this machine from proxies, which could not forward requests to it."""
    for name in ("NO_PROXY", "no_proxy"):
        known = [one.strip() for one in os.environ.get(name, "").split(",") if one.strip()]
        if "*" not in known:
            os.environ[name] = ",".join([*known, *(one for one in _LOOPBACK if one not in known)])
