"""Results and progress that a flow hands to its caller in this process, bypassing Prefect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from flows.execution.progress import SilentWatcher, StageProgress, Watcher
from flows.prefect_server.settings import TAG
from flows.prefect_server.start import await_prefect
from flows.processes.attached import end_with_announced_parent


@dataclass
class Caller:
    """The caller of a flow. A flow's parameters and result go through Prefect's server, which can
    carry neither a terminal nor a build.

    Attributes:
        watcher: where to show progress, besides the UI.
        results: of each flow that ran, by the flow's name.
        reports: progress of the stages of all of them.
    """

    watcher: Watcher = field(default_factory=SilentWatcher)
    results: dict[str, Any] = field(default_factory=dict)
    reports: list[StageProgress] = field(default_factory=list)


end_with_announced_parent()  # every flow imports this module before it runs

_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current_caller() -> Caller:
    """The caller that runs this flow; a silent one for a flow that a server runs."""
    return _caller.get() or Caller()


@contextmanager
def calling(watcher: Watcher) -> Iterator[Caller]:
    """Flows that run inside the block report to the caller that it yields.

    Raises:
        ZutisError: the user has no Prefect server, and none can be started.
    """
    from prefect import tags

    await_prefect()
    caller = Caller(watcher)
    token = _caller.set(caller)
    try:
        with tags(TAG):
            yield caller
    finally:
        _caller.reset(token)
