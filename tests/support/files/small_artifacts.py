"""Small artifacts for tests of the store, and processes that race or die while making one."""

from __future__ import annotations

import os
import signal
from typing import Any

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore

RECIPE = Recipe(stage="make", version=1, config={"size": 3})
REF = ArtifactRef("make", RECIPE.key())
CONTENT = b"rows " * 100


def publish(store: ArtifactStore, ref: ArtifactRef = REF, name: str = "rows.bin") -> Artifact:
    with store.attempt(ref) as attempt:
        with attempt.create(name) as file:
            file.write(CONTENT)
        return store.publish(attempt, RECIPE, counts={"rows": 100})


def die_while_writing(root: str) -> None:
    """Write one and a half files, and then die by SIGKILL."""
    with ArtifactStore(root).attempt(REF) as attempt:
        attempt.create_json("done.json", [1])
        with attempt.create("rows.bin") as file:
            file.write(CONTENT[:50])
            os.kill(os.getpid(), signal.SIGKILL)


def publish_when_all_are_ready(root: str, ready: Any, results: Any) -> None:
    """Write, wait at the barrier, publish, and put the published attempt's name in the queue."""
    store = ArtifactStore(root)
    with store.attempt(REF) as attempt:
        with attempt.create("rows.bin") as file:
            file.write(CONTENT)
        ready.wait(timeout=60)
        results.put(store.publish(attempt, RECIPE).manifest["attempt"])
