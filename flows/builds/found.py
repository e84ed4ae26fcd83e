"""Finding a build, with everything that it used and what was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from flows.pipelines.training import find_dataset
from flows.upkeep.find_artifacts import LATEST, find_by_key, newest_first
from storage.artifacts.inventory import read_manifests
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ArtifactError
from tasks.evaluation import evaluate
from tasks.merging.merge_datasets import MERGED
from tasks.packing import assemble_dataset, plan_shards, record_build
from tasks.retrieval import retrieve
from tasks.training import train


@dataclass(frozen=True)
class FoundBuild:
    """A finished build.

    Attributes:
        record: of `record_build`.
        dataset: of `assemble_dataset`; plan: of `plan_shards`; retrieval: of `retrieve`.
        artifacts: all that the build used or made and that the store still has, by stage, each
            stage's in the order of their keys.
    """

    record: Artifact
    dataset: Artifact
    plan: Artifact
    retrieval: Artifact
    artifacts: dict[str, list[Artifact]]

    @property
    def store(self) -> ArtifactStore:
        return self.dataset.store

    @property
    def name(self) -> str:
        """What the shards are called."""
        return str(self.dataset.manifest["config"].get("name", self.dataset.key))

    def one(self, stage: str) -> Artifact | None:
        """The stage's artifact; None where the build has none. Of several the first."""
        return next(iter(self.artifacts.get(stage, [])), None)

    @cached_property
    def trainings(self) -> list[Artifact]:
        """The trainings on the data set, by key."""
        found = self.store.published(train.NAME)
        return [one for one in found if one.manifest["inputs"].get("dataset") == self.dataset.key]

    @cached_property
    def evaluations(self) -> list[Artifact]:
        """The evaluations of these trainings, by key."""
        keys = {training.key for training in self.trainings}
        found = self.store.published(evaluate.NAME) if keys else []
        return [one for one in found if one.manifest["inputs"].get("training") in keys]


def find_build(store: ArtifactStore, key: str = "") -> FoundBuild:
    """The build of a key.

    Args:
        store: where to look.
        key: the beginning of the key of a data set or of a build's record; empty or `latest`: the
            latest build's data set.

    Raises:
        ArtifactError: there is none, or several, or it was not finished.
        StorageError: the store can't be read.
    """
    if key in ("", LATEST):
        return build_of(find_dataset(store, ""))
    found = find_by_key(store, key, [assemble_dataset.NAME, record_build.NAME])
    if found.ref.stage == record_build.NAME:
        ref = ArtifactRef(assemble_dataset.NAME, found.manifest["inputs"]["dataset"])
        return _found(store.get(ref), found)
    return build_of(found)


def build_of(dataset: Artifact) -> FoundBuild:
    """The build that made a data set; of a second round, the build that made its first labels.

    Raises:
        ArtifactError: it was not finished, or is merged from several builds.
    """
    if MERGED in dataset.manifest["inputs"]:
        raise ArtifactError(
            f"The data set {dataset.key[:12]} is merged from several builds: name one of these."
        )
    plan = dataset.manifest["inputs"].get("plan")
    for record in newest_first(dataset.store, record_build.NAME):
        if plan and record.manifest["inputs"]["shard_plan"] == plan:
            return _found(dataset, record)
    raise ArtifactError(
        f"The store {dataset.store.root} has no record of the build of {dataset.ref}: run the "
        "same `zutis build` again, which finishes it."
    )


def _found(dataset: Artifact, record: Artifact) -> FoundBuild:
    store, inputs = dataset.store, record.manifest["inputs"]
    used = record_build.used_artifacts(record) | {dataset.ref}
    refs = sorted(used, key=lambda ref: (ref.stage, ref.key))
    by_stage: dict[str, list[Artifact]] = {}
    for artifact in read_manifests(store, refs):
        by_stage.setdefault(artifact.ref.stage, []).append(artifact)
    return FoundBuild(
        record=record,
        dataset=dataset,
        plan=store.get(ArtifactRef(plan_shards.NAME, inputs["shard_plan"])),
        retrieval=store.get(ArtifactRef(retrieve.NAME, inputs["retrieval"])),
        artifacts=by_stage,
    )
