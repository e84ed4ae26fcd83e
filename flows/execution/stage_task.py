"""The wrapper that turns a stage into a Prefect task.

It gives a stage its cache key (our own fingerprint), its retries, and a result that is a reference.
The artifact store is the source of truth: a result whose artifact is gone is a cache miss, and a
task whose artifact is published does nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

from prefect import Task, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.serializers import Serializer

from flows.execution.executors import run_stage
from flows.execution.progress import StageProgress
from flows.execution.stage_call import StageCall
from flows.execution.stages import STAGES
from flows.prefect_server.settings import TAG
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ArtifactError, StorageError, ZutisError
from storage.files.filesystems import RefusedError

_RETRY_SECONDS = [5.0, 30.0]


class ArtifactSerializer(Serializer):  # Prefect dispatches on the bare class
    """Writes a reference; refuses to read one whose artifact is gone.

    Prefect treats a result that can't be read as a cache miss.
    """

    type: Literal["zutis-artifact"] = "zutis-artifact"

    def dumps(self, obj: dict[str, str]) -> bytes:
        return json.dumps(obj).encode()

    def loads(self, blob: bytes) -> dict[str, str]:
        reference: dict[str, str] = json.loads(blob)
        store = ArtifactStore(reference["store"])
        artifact = store.find(ArtifactRef(reference["stage"], reference["key"]))
        if artifact is None or artifact.problems():
            raise ArtifactError(f"{reference} is gone or damaged")
        return reference


# Progress of the stages that run in this process. A part that runs elsewhere finds nothing here
# and is counted when it has ended.
_watched: dict[str, StageProgress] = {}


def watch(progress: StageProgress) -> None:
    """Let parts of this stage, in this process, report to `progress`."""
    _watched[progress.stage] = progress


def unwatch(progress: StageProgress) -> None:
    _watched.pop(progress.stage, None)


@cache
def stage_task(stage: str) -> Task[[StageCall], dict[str, str] | None]:
    """The Prefect task of a stage, by the stage's name."""
    decorate: Callable[[Any], Any] = task(
        name=stage,
        description=(STAGES[stage].__doc__ or "").split("\n")[0],
        tags=[TAG],
        task_run_name=_run_name,
        cache_key_fn=_cache_key,
        persist_result=True,
        result_serializer=ArtifactSerializer(),
        cache_result_in_memory=False,
        retries=len(_RETRY_SECONDS),
        retry_delay_seconds=_RETRY_SECONDS,
        retry_condition_fn=_worth_retrying,
    )

    def run(call: StageCall) -> dict[str, str] | None:
        store = ArtifactStore(call.store)
        artifact = store.find(call.ref) if call.ref else None
        ref = artifact.ref if artifact else _make(call, store)
        if ref is None:
            return None
        return {"store": call.store, "stage": ref.stage, "key": ref.key}

    decorated: Task[[StageCall], dict[str, str] | None] = decorate(run)
    return decorated


def _make(call: StageCall, store: ArtifactStore) -> ArtifactRef | None:
    progress = _watched.get(call.stage)
    if call.cluster:
        from flows.execution.ray_cluster import run_on_cluster

        return run_on_cluster(call, progress)
    artifact = run_stage(call.stage, call.config, call.inputs, store, progress)
    return artifact.ref if artifact else None


def _run_name() -> str:
    context = TaskRunContext.get()
    assert context is not None
    call: StageCall = context.parameters["call"]
    return call.label


def _cache_key(context: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    call: StageCall = parameters["call"]
    return f"zutis/{call.store}/{call.ref}" if call.ref else None


def _worth_retrying(task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """Whether to retry: networks and machines may recover, users' mistakes and full disks don't."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, StorageError):
        return not isinstance(error, RefusedError)
    return not isinstance(error, ZutisError)
