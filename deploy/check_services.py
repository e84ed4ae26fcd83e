"""Health check of Prefect's background services in this container, by their heartbeat in Redis.

The process has no port for health checks. It writes a heartbeat every two seconds; one that hangs
stops.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from docket import Docket

# The queue's name in `prefect server services start`; the API server's has another.
_QUEUE = "prefect"


async def _is_alive() -> bool:
    async with Docket(name=_QUEUE, url=os.environ["PREFECT_SERVER_DOCKET_URL"]) as docket:
        workers = await docket.workers()
    return any(worker.name.startswith(f"{socket.gethostname()}#") for worker in workers)


if __name__ == "__main__":
    if not asyncio.run(_is_alive()):
        sys.exit("Prefect's services have written no heartbeat for 10 s.")
