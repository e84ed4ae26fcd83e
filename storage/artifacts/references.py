"""References between artifacts: the keys in the inputs of their manifests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from storage.artifacts.inventory import read_manifests
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore

# A key is unlike any other word of a manifest: digests are longer, and prefixes half as long.
_KEY = re.compile(r"(?:\w+/)?([0-9a-f]{20}-[0-9a-f]{20})")


def reachable(
    store: ArtifactStore,
    known: Iterable[ArtifactRef],
    roots: Iterable[ArtifactRef],
    follow: Callable[[ArtifactRef], bool] = lambda _: True,
) -> set[ArtifactRef]:
    """The roots, and all artifacts that can be reached from them.

    Args:
        store: where the manifests are.
        known: what a key may stand for.
        roots: where to begin; some may not exist.
        follow: whether an artifact keeps what its manifest names; else all do.

    Raises:
        ArtifactError: a manifest on the way is damaged.
        StorageError: the store can't be read.
    """
    by_key = {ref.key: ref for ref in known}
    found: set[ArtifactRef] = set()
    frontier = set(roots)
    while frontier:
        found |= frontier
        artifacts = read_manifests(store, [ref for ref in frontier if follow(ref)])
        frontier = {ref for artifact in artifacts for ref in inputs_of(artifact, by_key)} - found
    return found


def inputs_of(artifact: Artifact, by_key: Mapping[str, ArtifactRef]) -> set[ArtifactRef]:
    """The artifacts that a manifest's inputs name, among those of `by_key`."""
    keys = (_KEY.fullmatch(word) for word in _words(artifact.manifest["inputs"]))
    return {by_key[key[1]] for key in keys if key and key[1] in by_key}


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _words(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _words(item)
