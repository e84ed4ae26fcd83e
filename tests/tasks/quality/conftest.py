"""A small build on the hard made world with the shipped networks, and its measured regions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flows.demo.settings import CLIP, SELFMASK
from flows.execution.executors import LocalExecutor
from flows.pipelines.build import Build, build
from flows.settings.build import BuildSettings
from made_world.corpus import write_corpus
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.images.records import read_parquet
from tasks.quality import embed_regions, plan_regions
from tasks.retrieval.text_rows import TextRow
from tasks.stage.contract import PartOfPlan, SilentProgress, plan_parts
from tasks.stage.layout import SAMPLES, TEXTS

KINDS = ("star", "heart", "fish", "house")
IMAGES = 48


@dataclass(frozen=True, eq=False)
class MeasuredBuild:
    """A build and the regions of its masks.

    Attributes:
        folder: with the corpus and its truth.
        masks, regions: artifacts of these stages.
        texts: rows of the categories, in their order.
        config: of the regions.
        plan: of the regions.
    """

    folder: Path
    store: ArtifactStore
    build: Build
    masks: tuple[ArtifactRef, ...]
    regions: tuple[ArtifactRef, ...]
    texts: tuple[TextRow, ...]
    config: embed_regions.Config
    plan: Artifact


@pytest.fixture(scope="package")
def measured_build(tmp_path_factory: pytest.TempPathFactory) -> MeasuredBuild:
    folder = tmp_path_factory.mktemp("hard-world")
    write_corpus(folder, 77, IMAGES, KINDS, world="hard")
    vocabulary = folder / "kinds.txt"
    vocabulary.write_text("\n".join(KINDS), encoding="utf-8")
    settings = BuildSettings(
        corpus=(str(folder / "pictures"),), vocabulary=str(vocabulary), per_category=8,
        clip=CLIP, selfmask=SELFMASK, mask_size=96, device="cpu", store=str(folder / "store"),
    )  # fmt: skip
    store = ArtifactStore(settings.store)
    built = build(settings, LocalExecutor(store))
    clip, selfmask = built.models
    with built.shard_plan.open(SAMPLES) as file:
        keys = sorted(set(read_parquet(file, ["masked"])["masked"].to_pylist()))
    masks = tuple(ArtifactRef("make_masks", key) for key in keys)
    config = embed_regions.Config(
        clip=clip, selfmask=selfmask, masks_prefix=keys[0].partition("-")[0]
    )
    plan = plan_regions.run(
        plan_regions.Config(regions_prefix=config.recipe.prefix, part_images=12),
        plan_regions.Inputs(built.retrieval.ref, masks),
        store,
        SilentProgress(),
    )
    assert plan is not None
    regions = [
        embed_regions.run(config, PartOfPlan(plan.ref, part), store, SilentProgress()).ref
        for part in range(len(plan_parts(plan)))
    ]
    texts = _texts(store, built)
    return MeasuredBuild(folder, store, built, masks, tuple(regions), texts, config, plan)


def _texts(store: ArtifactStore, built: Build) -> tuple[TextRow, ...]:
    """The rows of the texts that the retrieval has used."""
    rows = []
    for artifact in store.published("embed_text", ""):
        with artifact.open(TEXTS) as file:
            table = read_parquet(file).to_pylist()
        rows += [(row, artifact.key) for row in table]
    by_name = {
        kind: TextRow(row["text_id"], key)
        for kind in KINDS
        for row, key in rows
        if any(kind in prompt for prompt in row["prompts"])
    }
    return tuple(by_name[kind] for kind in KINDS)


Runner = Callable[[ModuleType, Any, Any], Artifact]


@pytest.fixture
def run(measured_build: MeasuredBuild) -> Runner:
    """Runs a stage on the build's store, unless its artifact is there."""

    def _run(stage: ModuleType, config: Any, inputs: Any) -> Artifact:
        store = measured_build.store
        there = store.find(stage.locate(config, inputs, store))
        return there or stage.run(config, inputs, store, SilentProgress())

    return _run
