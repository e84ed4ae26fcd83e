"""Whether Prefect's background services of this container are alive: their sign of life in Redis.

The process has no port to ask. It writes a heartbeat every two seconds; one that hangs stops.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from docket import Docket

# What `prefect server services start` calls its queue; the API server's has another name.
_QUEUE = "prefect"


async def _is_alive() -> bool:
    async with Docket(name=_QUEUE, url=os.environ["PREFECT_SERVER_DOCKET_URL"]) as docket:
        workers = await docket.workers()
    return any(worker.name.startswith(f"{socket.gethostname()}#") for worker in workers)


if __name__ == "__main__":
    if not asyncio.run(_is_alive()):
        sys.exit("Prefect's services have given no sign of life for 10 s.")
