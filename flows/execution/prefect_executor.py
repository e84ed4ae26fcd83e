"""Running stages as Prefect task runs, one a part, in threads, with progress in the UI."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger

from flows.execution.executors import LocalExecutor
from flows.execution.progress import StageProgress, Watcher, Watchers
from flows.execution.stage_call import StageCall
from flows.execution.stage_task import stage_task, unwatch, watch
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from tasks.stage.stopping import Stopped

# The server takes in 20 to 33 task runs a second: finished parts beyond these are counted as
# cached and not submitted to be found cached one by one.
_MOST_CACHED_RUNS = 100
# Stages of one part that listen to signals, which Python gives to the main thread alone.
_MAIN_THREAD_STAGES = {"train"}


class PrefectExecutor(LocalExecutor):
    """To be used inside a flow run.

    Args:
        store: where artifacts are.
        watcher: where to show progress, besides the UI.
        workers: number of parts in flight at a time, or more if the cluster can run more.
        cluster: address of the Ray cluster that runs the parts; empty for this process.
    """

    def __init__(
        self, store: ArtifactStore, watcher: Watcher, workers: int, cluster: str = ""
    ) -> None:
        super().__init__(store, Watchers(UiWatcher(), watcher))
        self._workers = workers
        self._cluster = cluster

    def many(
        self, stage: str, config: Any, inputs: Sequence[Any], sizes: Sequence[int] | None = None
    ) -> list[Artifact]:
        artifacts = super().many(stage, config, inputs, sizes)
        report = self.reports[-1]
        if report.cached_parts == report.parts:
            self._show_cached(stage, config, inputs[:_MOST_CACHED_RUNS])
        return artifacts

    def _check_device(self, config: Any) -> None:
        if not self._cluster:  # the machines of the cluster check their own devices
            super()._check_device(config)

    def _show_cached(self, stage: str, config: Any, inputs: Sequence[Any]) -> None:
        """Task runs that Prefect shows as cached, for a stage that had nothing to do."""
        calls = [self._call(stage, config, item, "") for item in inputs]
        self._results(stage, calls, self._workers)

    def _run(
        self, progress: StageProgress, config: Any, inputs: Sequence[Any]
    ) -> list[Artifact | None]:
        of = len(inputs)
        calls = [
            self._call(
                progress.stage, config, item, f"{progress.stage} {number} of {of}" if of > 1 else ""
            )
            for number, item in enumerate(inputs, start=1)
        ]
        in_flight = self._parts_in_flight(config)
        watch(progress)
        try:
            return self._results(progress.stage, calls, in_flight)
        finally:
            unwatch(progress)

    def _call(self, stage: str, config: Any, inputs: Any, label: str) -> StageCall:
        return StageCall(
            stage=stage,
            config=config,
            inputs=inputs,
            store=self.store.root,
            ref=self._ref(stage, config, inputs),
            label=label or stage,
            cluster=self._cluster,
        )

    def _parts_in_flight(self, config: Any) -> int:
        if not self._cluster:
            return self._workers
        from flows.execution.ray_cluster import connect, parts_in_flight

        connect(self._cluster)  # here, in the main thread, which alone may handle signals
        return max(self._workers, parts_in_flight(config))

    def _results(
        self, stage: str, calls: Sequence[StageCall], in_flight: int
    ) -> list[Artifact | None]:
        """Submit parts as places become free; after a failure no further part is begun."""
        if stage in _MAIN_THREAD_STAGES:
            return [self._found(stage_task(stage)(call)) for call in calls]
        places = threading.BoundedSemaphore(in_flight)
        failed = threading.Event()

        def part_ended(future: PrefectFuture[Any]) -> None:
            # The run has ended; without `wait`, `state` would query the server. A run that a
            # signal interrupted is cancelled or has stopped, which is not an error.
            is_completed = False
            with contextlib.suppress(asyncio.CancelledError, Stopped):
                future.wait()
                is_completed = future.state.is_completed()
            if not is_completed:
                failed.set()
            places.release()

        futures: list[PrefectFuture[dict[str, str] | None]] = []
        for call in calls:
            places.acquire()
            if failed.is_set():
                break
            futures.append(stage_task(stage).submit(call))
            futures[-1].add_done_callback(part_ended)
        for future in futures:  # parts in flight end before an error is raised
            future.wait()
        return [self._artifact(future) for future in futures]

    def _artifact(self, future: PrefectFuture[dict[str, str] | None]) -> Artifact | None:
        return self._found(future.result())

    def _found(self, reference: dict[str, str] | None) -> Artifact | None:
        if reference is None:
            return None
        return self.store.get(ArtifactRef(reference["stage"], reference["key"]))


# Stages that take long enough to be watched; others would only clutter the page.
_WATCHED_STAGES = {
    "scan",
    "embed_images",
    "ask_again",
    "embed_crops",
    "embed_text",
    "build_index",
    "search_index",
    "make_masks",
    "pack_shards",
    "train",
    "evaluate",
}


class UiWatcher:
    """A progress artifact for each long stage, and every stage's last line in the run's log."""

    def __init__(self) -> None:
        self._artifacts: dict[str, UUID] = {}
        self._shown: dict[str, str] = {}

    def begin(self, progress: StageProgress) -> None:
        if progress.stage not in _WATCHED_STAGES:
            return
        key = progress.stage.replace("_", "-")
        artifact = create_progress_artifact(0.0, key=key, description=progress.how_far())
        self._artifacts[progress.stage] = cast(UUID, artifact)

    def refresh(self, progress: StageProgress) -> None:
        # Cards of the UI have the stage's name as their title, and show half a line of this.
        description = progress.how_far()
        unchanged = self._shown.get(progress.stage) == description
        if unchanged or progress.stage not in self._artifacts:
            return
        self._shown[progress.stage] = description
        update_progress_artifact(
            self._artifacts[progress.stage], 100.0 * progress.fraction, description
        )

    def end(self, progress: StageProgress) -> None:
        self.refresh(progress)
        for sentence in progress.warnings:
            get_run_logger().warning(sentence)
        get_run_logger().info(progress.describe())
