"""Whole builds and single stages with the fakes, and their artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from flows.execution.executors import CachedExecutor, LocalExecutor, run_stage
from flows.execution.progress import StageProgress
from flows.pipelines.build import Build, build
from flows.pipelines.training import find_dataset, train_model
from flows.settings.build import BuildSettings, clip_model, selfmask_model
from flows.settings.training import TrainingSettings, training_config
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.images.records import read_parquet
from tasks.stage.models import ModelConfig

# Names of weights only: the fakes are used in their place.
CLIP = "made-ViT-8:random:0"
SELFMASK = "random:0"


def clip() -> ModelConfig:
    return clip_model(CLIP, "cpu", "float32")


def selfmask() -> ModelConfig:
    return selfmask_model(SELFMASK, "cpu", "float32")


def write_vocabulary(path: Path, names: Sequence[str]) -> Path:
    path.write_text("\n".join(names) + "\n")
    return path


def settings_of(
    corpus: Path | str, vocabulary: Path, store: Path | str, **changes: Any
) -> BuildSettings:
    """Settings of a build with several parts in every stage, and several shards."""
    defaults: dict[str, Any] = {
        "per_category": 4,
        "clip": CLIP,
        "selfmask": SELFMASK,
        "mask_size": 32,
        "part_images": 5,
        "mask_part_images": 4,
        "shard_mb": 0.04,
        "device": "cpu",
    }
    corpora = (str(corpus),)
    return BuildSettings(
        corpus=corpora, vocabulary=str(vocabulary), store=str(store), **(defaults | changes)
    )


def build_here(settings: BuildSettings) -> Build:
    return build(settings, LocalExecutor(ArtifactStore(settings.store)))


def build_cached(settings: BuildSettings) -> Build:
    """Raises NotCached if anything is left to compute."""
    return build(settings, CachedExecutor(ArtifactStore(settings.store)))


def small_training(**changes: Any) -> TrainingSettings:
    """Three iterations on small crops, with few queries."""
    small = {
        "clip": CLIP, "iterations": 3, "batch_size": 2, "crop": 64, "max_objects": 2,
        "num_queries": 5, "num_decoder_layers": 1, "num_heads": 4, "workers": 0, "log_every": 1,
    }  # fmt: skip
    return TrainingSettings(**(small | changes))


def train_here(store: Path | str, settings: TrainingSettings) -> Artifact:
    """Train on the store's latest data set."""
    there = ArtifactStore(str(store))
    return train_model(training_config(settings), find_dataset(there, ""), LocalExecutor(there))


class ThreadedExecutor(LocalExecutor):
    """Runs parts in threads, the last part first, unlike other executors."""

    def __init__(self, store: ArtifactStore, workers: int) -> None:
        super().__init__(store)
        self._workers = workers

    def _run(
        self, progress: StageProgress, config: Any, inputs: Sequence[Any]
    ) -> list[Artifact | None]:
        def run(item: Any) -> Artifact | None:
            return run_stage(progress.stage, config, item, self.store, progress)

        with ThreadPoolExecutor(self._workers) as pool:
            return list(pool.map(run, list(inputs)[::-1]))[::-1]


def contents(store: Path | str) -> dict[str, dict[str, str]]:
    """sha256 of every file of every published artifact, by `stage/key`."""
    there = ArtifactStore(str(store))
    return {
        str(artifact.ref): {name: entry["sha256"] for name, entry in artifact.files.items()}
        for stage in there.stages()
        for artifact in there.published(stage)
    }


def artifacts_by_stage(store: Path | str) -> dict[str, set[str]]:
    there = ArtifactStore(str(store))
    return {stage: {a.key for a in there.published(stage)} for stage in there.stages()}


def new_artifacts(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, int]:
    """Number of new artifacts of each stage, without stages that made none."""
    counts = {stage: len(keys - before.get(stage, set())) for stage, keys in after.items()}
    return {stage: count for stage, count in counts.items() if count}


def rows_of(artifact: Artifact, name: str) -> list[dict[str, Any]]:
    with artifact.open(name) as file:
        rows: list[dict[str, Any]] = read_parquet(file).to_pylist()
    return rows


def unfinished_attempts(store: Path | str) -> list[str]:
    """Attempts that were never published."""
    there = ArtifactStore(str(store))
    published = {a.location for s in there.stages() for a in there.published(s)}
    return [
        place
        for stage in there.stages()
        for ref in (ArtifactRef(stage, key) for key in there.keys(stage))
        for attempt in there.attempts(ref)
        if (place := f"{there.location(ref)}/{attempt}") not in published
    ]
