"""Starting Prefect in a command, with the configured server or a temporary one."""

from __future__ import annotations

import sys

from flows.prefect_server.refusals import require_configured_server
from flows.prefect_server.settings import prepare_prefect, server_is_configured
from flows.prefect_server.temporary import await_server, start_server


def begin_prefect() -> None:
    """Prepare Prefect, and begin to start a temporary server if none is configured.

    The start takes seconds, in which the flow's own modules can be imported.

    Raises:
        ZutisError: the configured server does not answer, or no server can be started.
    """
    prepare_prefect()
    require_configured_server()
    if not _knows_a_server():
        start_server()


def await_prefect() -> None:
    """Wait for the temporary server if this process uses one; start it if necessary.

    Raises:
        ZutisError: the server can't be started, ends, or does not answer.
    """
    if not _knows_a_server():
        start_server()
    await_server()


def _knows_a_server() -> bool:
    """Whether Prefect would find a server, including the temporary one of this process."""
    if server_is_configured():
        return True
    if "prefect" not in sys.modules:
        return False
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())
