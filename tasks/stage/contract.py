"""What every stage has in common: how it is called, and how it tells of its progress.

A stage is a module with a `Config` (a frozen dataclass of settings), an `Inputs` (a frozen
dataclass of references to artifacts), and two plain functions:

- `locate(config, inputs, store) -> ArtifactRef`: the name of the output, without making it;
- `run(config, inputs, store, progress) -> Artifact`: make it.

Configs and inputs hold strings and numbers only, so that they can be sent to another machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.corpora.selection import Selection


class Progress(Protocol):
    """Where a stage reports what it has done."""

    def advance(self, amount: int = 1, *, rejected: str = "", **counts: int) -> None:
        """Count `amount` finished items, all of them rejected for a reason if one is given, and
        add to named counters such as `duplicates`."""

    def tell(self, text: str) -> None:
        """What is worth knowing right now, in a few words; takes the place of the last."""

    def warn(self, sentence: str) -> None:
        """What a user has to know although the stage goes on."""


class SilentProgress:
    """Progress that nobody watches."""

    def advance(self, amount: int = 1, *, rejected: str = "", **counts: int) -> None:
        return None

    def tell(self, text: str) -> None:
        return None

    def warn(self, sentence: str) -> None:
        return None


@contextmanager
def waiting(progress: Progress, what: str) -> Iterator[None]:
    """Say what is being waited for while the block runs, such as `loading CLIP`: a bar that stands
    still for seconds looks like a program that hangs."""
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
    """Inputs of a stage that works in parts: a plan and the number of one of its parts."""

    plan: ArtifactRef
    part: int


def plan_parts(plan: Artifact) -> list[dict[str, Any]]:
    """The parts that a plan lists: `digest` of their items, and `items`, how many they are."""
    parts: list[dict[str, Any]] = plan.notes["parts"]
    return parts


def plan_selection(plan: Artifact) -> Selection:
    """What a scan's plan narrows its corpus to. To files this has been applied; members of tars are
    left out by those who read them."""
    patterns = plan.notes.get("selection", {})
    return Selection(**{option: tuple(some) for option, some in patterns.items()})
