"""Artifacts by the beginning of their key, or the latest."""

from __future__ import annotations

import re
from collections.abc import Sequence

from storage.artifacts.store import Artifact, ArtifactStore
from storage.errors.exceptions import ArtifactError

LATEST = "latest"
"""The word for the latest artifact, in place of a key."""

_KEY = re.compile(r"[0-9a-f]{4,}(-[0-9a-f]*)?")


def is_key(name: str) -> bool:
    """Whether this can be the beginning of an artifact's key."""
    return _KEY.fullmatch(name) is not None


def find_by_key(store: ArtifactStore, key: str, stages: Sequence[str] = ()) -> Artifact:
    """The only artifact whose key begins with `key`.

    Args:
        store: the store.
        key: the beginning of the key; `stage/key` and a path that ends in it will do, too.
        stages: the stages to search; empty for all.

    Raises:
        ArtifactError: there is none, or several.
    """
    wanted = key.rstrip("/").rsplit("/", maxsplit=1)[-1]
    among = stages or store.stages()
    found = [artifact for stage in among for artifact in store.published(stage, wanted)]
    if len(found) == 1:
        return found[0]
    if not found:
        kind = f" of {', '.join(stages)}" if stages else ""
        raise ArtifactError(
            f"No artifact{kind} in {store.root} has a key that begins with {wanted!r}: see "
            "`zutis artifacts list`."
        )
    names = ", ".join(str(artifact.ref) for artifact in found[:5])
    raise ArtifactError(
        f"{wanted!r} begins the keys of {len(found)} artifacts ({names}, …): give more of it."
    )


def latest(store: ArtifactStore, stage: str) -> Artifact | None:
    """The stage's artifact that was published last; None if there is none."""
    return next(iter(newest_first(store, stage)), None)


def newest_first(store: ArtifactStore, stage: str) -> list[Artifact]:
    """The stage's artifacts, the latest first."""
    return sorted(
        store.published(stage),
        key=lambda artifact: (artifact.manifest["created"], artifact.key),
        reverse=True,
    )


def counts_line(artifact: Artifact) -> str:
    """An artifact's counts for a table: numbers only, with four decimals."""
    numbers = {k: v for k, v in artifact.counts.items() if isinstance(v, int | float)}
    return ", ".join(
        f"{name} {round(value, 4) if isinstance(value, float) else value:,}"
        for name, value in numbers.items()
    )
