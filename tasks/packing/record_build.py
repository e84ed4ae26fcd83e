"""The stage `record_build`: a build's settings and all artifacts that it used or made.

`zutis search` uses the index of the latest record, and `zutis artifacts gc` keeps the artifacts
that records refer to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from tasks.stage.contract import Progress

NAME = "record_build"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the build.

    Attributes:
        vocabulary: the vocabulary's name.
        clip: identity of the CLIP weights; selfmask: of the SelfMask weights.
        notes: for people: labels of the weights, the corpus as given. Not part of the key.
    """

    vocabulary: str
    clip: str
    selfmask: str
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """All artifacts that the build used or made.

    Attributes:
        beside: those that describe the build and decide nothing in it; not part of the key.
    """

    index: ArtifactRef
    retrieval: ArtifactRef
    shard_plan: ArtifactRef
    dataset: ArtifactRef
    others: tuple[ArtifactRef, ...]
    beside: tuple[ArtifactRef, ...] = ()


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config={"vocabulary": config.vocabulary, "clip": config.clip, "selfmask": config.selfmask},
        inputs={
            "index": inputs.index.key,
            "retrieval": inputs.retrieval.key,
            "shard_plan": inputs.shard_plan.key,
            "dataset": inputs.dataset.key,
            "others": sorted(str(ref) for ref in inputs.others),
        },
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key())


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish a record: a manifest without files."""
    with store.attempt(locate(config, inputs, store)) as attempt:
        counts = store.get(inputs.shard_plan).counts
        progress.advance(1)
        return store.publish(
            attempt,
            _recipe(config, inputs),
            inputs={"beside": sorted(str(ref) for ref in inputs.beside)},
            counts={"samples": counts["samples"], "categories": len(counts["categories"])},
            notes=dict(config.notes),
        )


def used_artifacts(record: Artifact) -> set[ArtifactRef]:
    """All artifacts that a record refers to, itself included."""
    inputs = record.manifest["inputs"]
    named = {
        record.ref,
        ArtifactRef("build_index", inputs["index"]),
        ArtifactRef("retrieve", inputs["retrieval"]),
        ArtifactRef("plan_shards", inputs["shard_plan"]),
        ArtifactRef("assemble_dataset", inputs["dataset"]),
    }
    others = [*inputs["others"], *inputs.get("beside", ())]
    return named | {ArtifactRef(*str(other).split("/", 1)) for other in others}
