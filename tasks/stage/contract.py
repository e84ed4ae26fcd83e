"""The contract of stages: how they are called, and how they report progress.

A stage is a module with a `Config` (a frozen dataclass of settings), an `Inputs` (a frozen
dataclass of references to artifacts), and two plain functions:

- `locate(config, inputs, store) -> ArtifactRef`: the key of the output, without computing it;
- `run(config, inputs, store, progress) -> Artifact`: compute and publish it.

Configs and inputs hold only strings and numbers, so that they can be sent to another machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.corpora.selection import Selection


class Progress(Protocol):
    """The receiver of a stage's progress."""

    def advance(self, amount: int = 1, *, rejected: str = "", **counts: int) -> None:
        """Count `amount` finished items, all rejected if a reason is given, and add to named
        counters such as `duplicates`."""

    def tell(self, text: str) -> None:
        """Show a short status, which replaces the last one."""

    def warn(self, sentence: str) -> None:
        """Report a warning to the user; the stage continues."""


class SilentProgress:
    """Progress that is not shown."""

    def advance(self, amount: int = 1, *, rejected: str = "", **counts: int) -> None:
        return None

    def tell(self, text: str) -> None:
        return None

    def warn(self, sentence: str) -> None:
        return None


@contextmanager
def waiting(progress: Progress, what: str) -> Iterator[None]:
    """Show a status such as `loading CLIP` while the block runs: a bar that does not move for
    seconds looks like a hanging program."""
    progress.tell(what)
    try:
        yield
    finally:
        progress.tell("")


class Stage(Protocol):
    """The shape of a stage's module."""

    NAME: str

    def locate(self, config: Any, inputs: Any, store: ArtifactStore) -> ArtifactRef: ...

    def run(
        self, config: Any, inputs: Any, store: ArtifactStore, progress: Progress
    ) -> Artifact: ...


@dataclass(frozen=True)
class PartOfPlan:
    """Inputs of a stage that runs once per part: a plan and the number of one of its parts."""

    plan: ArtifactRef
    part: int


def plan_parts(plan: Artifact) -> list[dict[str, Any]]:
    """The parts of a plan: `digest` of their items, and `items`, their number."""
    parts: list[dict[str, Any]] = plan.notes["parts"]
    return parts


def plan_selection(plan: Artifact) -> Selection:
    """The patterns of a scan's plan. The scan has applied them to files; readers of tars apply them
    to members."""
    patterns = plan.notes.get("selection", {})
    return Selection(**{option: tuple(some) for option, some in patterns.items()})
