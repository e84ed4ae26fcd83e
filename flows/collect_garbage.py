"""What can go from a store: unfinished attempts, and artifacts that nobody refers to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.artifacts import ArtifactRef, ArtifactStore
from storage.errors import ArtifactError
from storage.filesystems import resolve, translated_errors
from tasks import assemble_dataset, evaluate, scan, train
from tasks.record_build import used_artifacts

_LASTING = {scan.NAME, train.NAME, evaluate.NAME}


@dataclass(frozen=True)
class Garbage:
    """Something to remove: an attempt if one is named, else a whole artifact."""

    ref: ArtifactRef
    attempt: str = ""

    def describe(self) -> str:
        if self.attempt:
            return f"unfinished {self.ref}/{self.attempt}"
        return f"unreferenced {self.ref}"

    def remove(self, store: ArtifactStore) -> None:
        if self.attempt:
            store.sweep(self.ref, self.attempt)
        else:
            store.delete(self.ref)


def find_garbage(store: ArtifactStore, *, before: float, unreferenced: bool) -> Iterator[Garbage]:
    """Look through the store.

    Args:
        store: the store.
        before: seconds since the epoch; whatever is younger is left, since a running build may be
            writing or using it.
        unreferenced: also artifacts that no recorded build and no training refers to. The plans of
            corpora stay: what is new in a corpus is told by them. So do trainings and evaluations,
            which are what all else was made for.
    """
    used = _used(store)
    for stage in store.stages():
        for key in store.keys(stage):
            ref = ArtifactRef(stage, key)
            try:
                artifact = store.find(ref)
            except ArtifactError:
                continue  # damaged: for --repair to see to
            kept = artifact.manifest["attempt"] if artifact else None
            for attempt in store.attempts(ref):
                if attempt != kept and _newest(f"{store.location(ref)}/{attempt}") < before:
                    yield Garbage(ref, attempt)
            if not unreferenced or artifact is None or ref in used or stage in _LASTING:
                continue
            if datetime.fromisoformat(artifact.manifest["created"]).timestamp() < before:
                yield Garbage(ref)


def _used(store: ArtifactStore) -> set[ArtifactRef]:
    used = {
        ArtifactRef(assemble_dataset.NAME, training.manifest["inputs"]["dataset"])
        for training in store.published(train.NAME)
    }
    for record in store.published("record_build"):
        used |= used_artifacts(record)
    return used


def _newest(uri: str) -> float:
    """When the youngest file under a folder was last written, in seconds since the epoch."""
    filesystem, path = resolve(uri)
    with translated_errors("list", uri):
        entries = filesystem.find(path, withdirs=True, detail=True).values()
    return max((_modified(entry) for entry in entries), default=0.0)


def _modified(entry: dict[str, Any]) -> float:
    for name in ("mtime", "LastModified", "last_modified", "created"):
        if isinstance(entry.get(name), datetime):
            return float(entry[name].timestamp())
        if entry.get(name) is not None:
            return float(entry[name])
    return float("inf")
