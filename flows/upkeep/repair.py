"""Repair: damaged artifacts are found by reading every byte, and removed to be made again."""

from __future__ import annotations

from collections.abc import Iterator

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ArtifactError


def repair_store(store: ArtifactStore) -> Iterator[str]:
    """Remove every damaged artifact; yields a line for each.

    A rebuilt artifact has the same key and the same bytes, so artifacts made from it stay valid.
    """
    for stage in store.stages():
        for key in store.keys(stage):
            ref = ArtifactRef(stage, key)
            problems = find_problems(store, ref)
            if problems:
                store.delete(ref)
                yield f"Removed {ref}, to be rebuilt: {'; '.join(problems)}."


def find_problems(store: ArtifactStore, ref: ArtifactRef) -> list[str]:
    """The damage to an artifact or its manifest; attempts don't count as artifacts."""
    try:
        artifact = store.find(ref)
    except ArtifactError as error:
        return [str(error)]
    return artifact.problems(deep=True) if artifact else []
