"""The flows as Prefect deployments, and the automation that finds dead runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.runner import Runner
from prefect.types.entrypoint import EntrypointType

from flows.build_pseudolabels import build_pseudolabels
from flows.evaluate_zutis import evaluate_zutis
from flows.prefect_server.settings import TAG
from flows.train_zutis import train_zutis
from storage.errors.exceptions import ConfigError

HEARTBEAT_SECONDS = 30
"""How often a run says that it is alive. Prefect allows no less."""

AUTOMATION = "zutis: crash runs without a heartbeat"

# Twice the heartbeat and a margin: a busy machine may delay one, and must not lose a run for it.
_SILENT_SECONDS = 90
# Prefect asks every 10 s; a cached build takes less than that altogether.
_POLL_SECONDS = 2.0

_FLOWS: tuple[Flow[..., Any], ...] = (build_pseudolabels, train_zutis, evaluate_zutis)


def make_deployments(defaults: Mapping[str, Any]) -> list[RunnerDeployment]:
    """A deployment of each flow, under the flow's own name.

    Their entry points are modules of this package, so that runs start in the serving process's
    folder, and relative paths are relative to it.

    Args:
        defaults: parameters of build-pseudolabels that a run need not name.

    Raises:
        ConfigError: there is no such parameter.
    """
    _check_names(defaults)
    return [_make(flow, defaults if flow is build_pseudolabels else {}) for flow in _FLOWS]


def make_runner(limit: int) -> Runner:
    """The runner, which polls for runs and starts a process for each.

    Schedules continue while it is stopped: it starts runs that became due when it is back.

    Args:
        limit: runs at a time.
    """
    return Runner(
        name=TAG,
        query_seconds=_POLL_SECONDS,
        heartbeat_seconds=HEARTBEAT_SECONDS,
        limit=limit,
        pause_on_shutdown=False,
    )


def run_until_stopped(runner: Runner) -> None:
    """Start runs that are due until Ctrl-C or SIGTERM, which ends the runs in progress as crashed.

    Their processes receive SIGTERM and have 30 s to publish finished work. A second signal ends
    them at once.
    """
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(_run_until_stopped(runner))


async def _run_until_stopped(runner: Runner) -> None:
    running = asyncio.create_task(runner.start())
    await asyncio.sleep(0)  # the runner sets a handler of its own, which kills its runs
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        if stopping or not runner.started:
            running.cancel()
        else:
            stopping.append(asyncio.create_task(_stop(runner)))

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await running
    await asyncio.gather(*stopping)


async def _stop(runner: Runner) -> None:
    """Stop the runner; its own stop() would show its runs as cancelled, as if by a user."""
    processes = getattr(runner, "_process_manager", None)
    try:
        if processes is not None:  # private, so it may go; the runs are then shown as cancelled
            await asyncio.gather(*(processes.kill(run) for run in processes.flow_run_ids()))
            while processes.flow_run_ids():
                await asyncio.sleep(0.1)
    finally:
        await runner.astop()


def install_automation() -> None:
    """Have the server mark our runs as crashed when their heartbeats stop; they can be retried.

    An existing automation is left as it is, so that users' changes to it are kept.
    """
    with get_client(sync_client=True) as client:
        if not client.read_automations_by_name(AUTOMATION):
            client.create_automation(_automation())


def _make(flow: Flow[..., Any], defaults: Mapping[str, Any]) -> RunnerDeployment:
    deployment = RunnerDeployment.from_flow(
        flow,
        name=flow.name,
        description=(flow.description or "").partition("\n\n")[0],
        parameters=dict(defaults),
        tags=[TAG],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    # Any value that is set here is written to the server, and would undo users' choices in the UI.
    theirs = {"schedules", "paused", "concurrency_limit", "concurrency_options"}
    deployment.model_fields_set.difference_update(theirs if defaults else {*theirs, "parameters"})
    deployment.work_pool_name = deployment.work_queue_name = None  # runs are started here
    return deployment


def _automation() -> AutomationCore:
    ends = {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed")}
    return AutomationCore(
        name=AUTOMATION,
        description=f"No sign of life for {_SILENT_SECONDS} s: its process or machine is gone.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ends},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=_SILENT_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                state=StateType.CRASHED,
                force=False,
                message="Its process or machine is gone. What it had finished is kept: retry it.",
            )
        ],
    )


def _check_names(defaults: Mapping[str, Any]) -> None:
    known = build_pseudolabels.parameters.properties
    unknown = [name for name in defaults if name not in known]
    if unknown:
        raise ConfigError(
            f"build-pseudolabels has no parameter {unknown[0]}, only {', '.join(known)}."
        )
