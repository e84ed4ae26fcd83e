"""Flow runs that another flow triggers, in a work pool or in this process.

A child that runs elsewhere shares nothing with its parent but the Prefect server and the artifact
store. It publishes its result as an artifact of its run, which the parent reads from the server.
Prefect's own results would need a storage that both can read.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    DeploymentFilter,
    FlowFilter,
    FlowFilterName,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from storage.artifacts.store import Artifact
from storage.errors.exceptions import ConfigError, ZutisError

_RESULT_KEY = "result"


Result = dict[str, str]
"""An artifact's `stage`, `key` and `location`."""


def publish_result(*artifacts: Artifact) -> list[Result]:
    """Hand the results to the flow run that triggered this one, and return them."""
    rows = [
        {"stage": artifact.ref.stage, "key": artifact.key, "location": artifact.location}
        for artifact in artifacts
    ]
    create_table_artifact(rows, key=_RESULT_KEY, description="What this run has made")
    return rows


def run_in_pool(flow: str, pool: str, parameters: dict[str, Any]) -> list[Result]:
    """Run a flow's deployment of a work pool, and wait for its end.

    Args:
        flow: name of the flow.
        pool: name of the work pool.
        parameters: of the flow, as JSON has them.

    Returns:
        The rows that the flow passed to `publish_result`.

    Raises:
        ConfigError: no deployment of the flow is in that pool.
        ZutisError: the run did not complete.
    """
    run = run_deployment(_deployment(flow, pool), parameters=parameters, poll_interval=2)
    assert isinstance(run, FlowRun), "run_deployment waits in a flow that is not async"
    if run.state is None or not run.state.is_completed():
        reason = run.state.message if run.state and run.state.message else "no reason given"
        state = run.state.name if run.state else "unknown"
        raise ZutisError(
            f"The run {run.name} of {flow} in the work pool {pool} ended as {state}: "
            f"{reason.rstrip('.')}. What it had finished is kept; the same command goes on."
        )
    return _result(run.id, run.name)


def _deployment(flow: str, pool: str) -> UUID:
    with get_client(sync_client=True) as client:
        found = client.read_deployments(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
            deployment_filter=DeploymentFilter(),
        )
    if not found:
        raise ConfigError(
            f"No deployment of {flow} is in the work pool {pool!r}: deploy it there, or leave "
            "work_pool empty to run it here."
        )
    return found[0].id


def _result(run_id: UUID, name: str) -> list[Result]:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]),
                key=ArtifactFilterKey(any_=[_RESULT_KEY]),
            )
        )
    if not found:
        raise ZutisError(f"The run {name} ended without telling its result; look at its log.")
    rows: list[Result] = json.loads(str(found[-1].data))
    return rows
