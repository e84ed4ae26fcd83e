"""Executors of stages: here and now, or only from the cache.

The wiring of a flow asks an executor for artifacts. It does not know whether they are computed in
this process, as Prefect task runs, or must all be there already.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

from flows.execution.progress import SilentWatcher, StageProgress, Watcher, refreshing
from flows.execution.stages import STAGES
from flows.settings.devices import devices_of, require_device
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore, damaged
from storage.artifacts.work_clock import working
from tasks.stage.contract import Progress, SilentProgress

LOOKING: Final = "Looking for what is there already"
"""The notice while a command looks for published artifacts with a `CachedExecutor`."""


class NotCached(Exception):  # noqa: N818 - an answer, not a failure
    """A stage would have to run."""


class Executor(Protocol):
    """The interface that a flow's wiring uses.

    `look` runs a stage that reads the current state of a corpus or the store, and therefore has no
    key before it runs; `look_all` does so for several parts. `one` and `many` return a stage's
    artifacts and compute missing ones; `made` holds those that `many` computed.
    """

    store: ArtifactStore
    made: set[ArtifactRef]

    def warn(self, sentence: str) -> None:
        """Show users a warning, together with the next stage."""

    def look(self, stage: str, config: Any, inputs: Any) -> Artifact | None: ...

    def look_all(
        self, stage: str, config: Any, inputs: Sequence[Any], sizes: Sequence[int]
    ) -> list[Artifact | None]: ...

    def one(self, stage: str, config: Any, inputs: Any) -> Artifact: ...

    def many(
        self, stage: str, config: Any, inputs: Sequence[Any], sizes: Sequence[int] | None = None
    ) -> list[Artifact]:
        """Artifacts for every one of `inputs`; `sizes` says how many items each holds."""


class LocalExecutor:
    """Runs what is missing in this thread, and reports what it did.

    Attributes:
        store: where artifacts are.
        made: the artifacts that `many` computed.
        reports: progress of every stage that was asked for, in order; stages asked for twice
            appear twice.
    """

    def __init__(self, store: ArtifactStore, watcher: Watcher | None = None) -> None:
        self.store = store
        self.made: set[ArtifactRef] = set()
        self.reports: list[StageProgress] = []
        self._watcher = watcher or SilentWatcher()
        self._to_tell: list[str] = []

    def warn(self, sentence: str) -> None:
        self._to_tell.append(sentence)

    def look(self, stage: str, config: Any, inputs: Any) -> Artifact | None:
        [artifact] = self.look_all(stage, config, [inputs], [0])
        return artifact

    def look_all(
        self, stage: str, config: Any, inputs: Sequence[Any], sizes: Sequence[int]
    ) -> list[Artifact | None]:
        progress = StageProgress(stage, total=sum(sizes), parts=len(inputs), cached_parts=0)
        return self._watched(progress, config, inputs)

    def one(self, stage: str, config: Any, inputs: Any) -> Artifact:
        return self.many(stage, config, [inputs])[0]

    def many(
        self, stage: str, config: Any, inputs: Sequence[Any], sizes: Sequence[int] | None = None
    ) -> list[Artifact]:
        found = [self._published(stage, config, item) for item in inputs]
        missing = [item for item, artifact in zip(inputs, found, strict=True) if artifact is None]
        progress = StageProgress(
            stage,
            total=_missing_size(found, sizes),
            parts=len(found),
            cached_parts=len(found) - len(missing),
        )
        made = cast(list[Artifact], self._watched(progress, config, missing) if missing else [])
        if not missing:
            self._tell_cached(progress)
        self.made.update(artifact.ref for artifact in made)
        others = iter(made)
        return [artifact or next(others) for artifact in found]

    def _check_device(self, config: Any) -> None:
        """Make sure that this machine has the device that a stage is to compute on."""
        for device in devices_of(config):
            require_device(device)

    def _tell_cached(self, progress: StageProgress) -> None:
        progress.finished = progress.started
        self._begin(progress)
        self._watcher.end(progress)

    def _begin(self, progress: StageProgress) -> None:
        self.reports.append(progress)
        for sentence in self._to_tell:
            progress.warn(sentence)
        self._to_tell.clear()
        self._watcher.begin(progress)

    def _ref(self, stage: str, config: Any, inputs: Any) -> ArtifactRef | None:
        """The reference of a stage's output; None for a stage that has no key before it runs."""
        locate = getattr(STAGES[stage], "locate", None)
        return locate(config, inputs, self.store) if locate else None

    def _published(self, stage: str, config: Any, inputs: Any) -> Artifact | None:
        ref = self._ref(stage, config, inputs)
        assert ref is not None, f"{stage} has no key before it runs"
        artifact = self.store.find(ref)
        if artifact is not None and (problems := artifact.problems()):
            raise damaged(ref, problems)
        return artifact

    def _watched(
        self, progress: StageProgress, config: Any, inputs: Sequence[Any]
    ) -> list[Artifact | None]:
        self._check_device(config)
        self._begin(progress)
        with refreshing(progress, self._watcher):
            made = self._run(progress, config, inputs)
        progress.finished = time.monotonic()
        self._watcher.end(progress)
        return made

    def _run(
        self, progress: StageProgress, config: Any, inputs: Sequence[Any]
    ) -> list[Artifact | None]:
        return [run_stage(progress.stage, config, item, self.store, progress) for item in inputs]


class CachedExecutor(LocalExecutor):
    """Finds published artifacts and computes none; lists the corpus, as that is never cached.

    Raises:
        NotCached: at the first stage that would have to run.
    """

    def _watched(
        self, progress: StageProgress, config: Any, inputs: Sequence[Any]
    ) -> list[Artifact | None]:
        if progress.stage not in ("scan", "plan_masks", "plan_regions"):
            raise NotCached(progress.stage)
        self.reports.append(progress)
        made = self._run(progress, config, inputs)
        progress.finished = time.monotonic()
        return made


def run_stage(
    stage: str, config: Any, inputs: Any, store: ArtifactStore, progress: Progress | None = None
) -> Artifact | None:
    """Run one stage on one set of inputs."""
    run = STAGES[stage].run
    with working():
        return cast("Artifact | None", run(config, inputs, store, progress or SilentProgress()))


def _missing_size(found: Sequence[Artifact | None], sizes: Sequence[int] | None) -> int:
    if sizes is None:
        return 0
    return sum(size for artifact, size in zip(found, sizes, strict=True) if artifact is None)
