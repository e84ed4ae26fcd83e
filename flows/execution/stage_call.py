"""The call of one part of a stage, as executors hand it over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from storage.artifacts.store import ArtifactRef


@dataclass(frozen=True)
class StageCall:
    """One part of a stage, as it travels to a worker: strings and numbers.

    Attributes:
        stage: the stage's name.
        config, inputs: the stage's own dataclasses.
        store: root of the artifact store.
        ref: the artifact that it publishes; None for a stage that has no key before it runs.
        label: the task run's name in the UI.
        cluster: address of the Ray cluster to run on; empty for this process.
    """

    stage: str
    config: Any
    inputs: Any
    store: str
    ref: ArtifactRef | None
    label: str
    cluster: str = ""
