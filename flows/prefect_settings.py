"""Settings of a Prefect that works inside one of our commands, and whether a server is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from flows.prefect_values import import_prefect, may_be_refused

TAG: Final = "zutis"
"""Of all our runs: the automation of `zutis serve` looks after these and no others."""

STARTING_PREFECT: Final = "Starting Prefect"
"""What is waited for until a flow's first stage begins."""


def server_is_configured() -> bool:
    """Whether runs belong into the UI of a server that the user has named."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    if not _has_prefect_profile():
        return False
    import_prefect()
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


def _has_prefect_profile() -> bool:
    """Whether a file could name a server; importing Prefect to ask takes two seconds."""
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    return any(path.exists() for path in (home / "profiles.toml", Path("prefect.toml")))


def prepare_prefect() -> None:
    """Choose settings of an embedded Prefect, unless the user has chosen others.

    Its log goes to its API; the terminal has our own progress and one line for an error.
    """
    doubtful = may_be_refused()
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        # A busy machine takes longer than the 20 s that Prefect waits for its own server.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        # A run whose process has died is marked as crashed by the automation of `zutis serve`,
        # which waits for these signs of life.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if doubtful:
        import_prefect()
