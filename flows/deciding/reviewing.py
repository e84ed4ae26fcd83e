"""What a review has come to: the state of each label, counts, verdicts, and taking them back."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, Final

from flows.deciding.decision_log import DecisionLog
from flows.deciding.reviewed import Reviewed
from storage.decisions.decision import (
    ACCEPT,
    CLEAR,
    REJECT,
    RENAME,
    SEVERAL,
    Decision,
    now,
)
from storage.decisions.outcomes import Outcome
from storage.errors.exceptions import ConfigError
from tasks.deciding.precision import precision_of

VERDICTS: Final = (ACCEPT, REJECT, RENAME, SEVERAL, CLEAR)
"""Those that the page gives. Masks are drawn in other programs."""

_MOST_UNDO: Final = 10_000


@dataclass(frozen=True)
class _Step:
    """Decisions that were appended, and those that were in force before."""

    label: int
    made: Decision
    before: tuple[Decision, ...]


@dataclass(eq=False)
class Reviewing:
    """A review under way. Thread-safe.

    Attributes:
        reviewed: the labels.
        log: the file of decisions.
        who: the name of the person who decides.
    """

    reviewed: Reviewed
    log: DecisionLog
    who: str = ""
    _outcomes: dict[int, Outcome] = field(default_factory=dict, init=False, repr=False)
    _counts: Counter[int] = field(default_factory=Counter, init=False, repr=False)
    _right: Counter[int] = field(default_factory=Counter, init=False, repr=False)
    _masks: dict[int, str] = field(default_factory=dict, init=False, repr=False)
    _steps: dict[int, _Step] = field(default_factory=dict, init=False, repr=False)
    _last_step: int = field(default=0, init=False, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)

    def refresh(self) -> None:
        """Follow what this and other processes have decided since.

        Raises:
            CorpusError, StorageError: the file has a line that is no decision, or can't be read.
            ArtifactError: a sample is gone or damaged.
        """
        with self._lock:
            self._follow(self.log.refresh())

    def outcome_of(self, label: int) -> Outcome | None:
        """What became of a label; None while nobody has decided."""
        return self._outcomes.get(label)

    def is_looked_at(self, label: int) -> bool:
        """Whether somebody has decided; of a random sample, has as one of the sample: what was
        decided about labels that somebody picked says nothing of the others."""
        outcome = self._outcomes.get(label)
        return outcome is not None and (outcome.sampled or not self.reviewed.is_sample)

    def state_of(self, label: int) -> str:
        """`accepted`, `rejected`, `renamed`, `redrawn` or `several`; empty while undecided."""
        outcome = self._outcomes.get(label)
        return _state(outcome, self.reviewed.name_of(label)) if outcome else ""

    def decide(self, label: int, verdict: str, to: str = "") -> int:
        """Write a decision about a label; returns a number by which it is taken back.

        Args:
            label: index of one that is under review.
            verdict: of `VERDICTS`.
            to: of `rename`, the category.

        Raises:
            ConfigError: the verdict is none, or a category is missing or the label's own.
            CorpusError, ArtifactError, StorageError: as `refresh`; or the file can't be written.
        """
        name = self.reviewed.name_of(label)
        if verdict not in VERDICTS:
            raise ConfigError(f"There is no verdict {verdict!r}: choose {', '.join(VERDICTS)}.")
        if (verdict == RENAME) != bool(to) or to == name:
            raise ConfigError("Another category is needed, and for rename alone: name one.")
        with self._lock:
            self.refresh()
            before = self._path_of(label)
            decision = Decision(
                image_id=self.reviewed.labels.image_id(label),
                category=name,
                mask=self._mask_of(label),
                verdict=verdict,
                to=to,
                sample=self.reviewed.sizes.get(self.reviewed.labels.category(label), 0),
                who=self.who,
                when=now(),
            )
            [made] = self._write([decision])
            return self._remember(_Step(label, made, tuple(before)))

    def take_back(self, number: int) -> int:
        """Append what was decided before a decision, or that nothing was; returns its label.

        Args:
            number: that `decide` returned.

        Raises:
            ConfigError: there is none of this number, or somebody has decided anew since.
            CorpusError, ArtifactError, StorageError: as `decide`.
        """
        with self._lock:
            self.refresh()
            step = self._steps.get(number)
            if step is None:
                raise ConfigError("This decision can't be taken back any more: decide anew.")
            if self._path_of(step.label)[:1] != [step.made]:
                raise ConfigError(
                    "Somebody has decided about this label since: nothing was taken back."
                )
            again = [replace(each, who=self.who) for each in step.before]
            self._write(again or [replace(step.made, verdict=CLEAR, to="", sample=0)])
            del self._steps[number]
            return step.label

    def counts(self) -> dict[str, Any]:
        """How many labels there are and how many were looked at, in all and by category_id; of a
        random sample also the share that is right."""
        with self._lock:
            rows = [
                {"category_id": number, "labels": labels, "looked_at": self._counts[number],
                 **self._precision(number)}
                for number, labels in self.reviewed.categories.items()
            ]  # fmt: skip
        return {
            "labels": len(self.reviewed.drawn),
            "looked_at": sum(row["looked_at"] for row in rows),
            "categories": rows,
        }

    def _precision(self, category: int) -> dict[str, float]:
        looked_at = self._counts[category]
        if not (self.reviewed.is_sample and looked_at):
            return {}
        found = precision_of(self._right[category], looked_at)
        return {"share": found.share, "low": found.low, "high": found.high}

    def _write(self, decisions: list[Decision]) -> list[Decision]:
        written = self.log.append(decisions)
        self._follow({decision.image_id for decision in written})
        return written

    def _remember(self, step: _Step) -> int:
        self._last_step += 1
        self._steps[self._last_step] = step
        self._steps.pop(self._last_step - _MOST_UNDO, None)
        return self._last_step

    def _follow(self, image_ids: Collection[str]) -> None:
        for image_id in image_ids:
            for label in self.reviewed.of_image(image_id):
                self._count(label, -1)
                self._outcomes.pop(label, None)
                outcome = self.log.outcome(
                    image_id, self.reviewed.name_of(label), self._mask_of(label)
                )
                if outcome.is_decided:
                    self._outcomes[label] = outcome
                self._count(label, 1)

    def _count(self, label: int, by: int) -> None:
        if self.is_looked_at(label):
            category = self.reviewed.labels.category(label)
            self._counts[category] += by
            right = self.state_of(label) in ("accepted", "several")
            self._right[category] += by if right else 0

    def _path_of(self, label: int) -> list[Decision]:
        reviewed = self.reviewed
        return self.log.path_of(
            reviewed.labels.image_id(label), reviewed.name_of(label), self._mask_of(label)
        )

    def _mask_of(self, label: int) -> str:
        if label not in self._masks:
            self._masks[label] = self.reviewed.mask_of(label)
        return self._masks[label]


def _state(outcome: Outcome, name: str) -> str:
    if outcome.rejected:
        return "rejected"
    if outcome.category != name:
        return "renamed"
    if outcome.drawn:
        return "redrawn"
    return "several" if outcome.several else "accepted"
