"""What decisions come to: of those about one label the latest holds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from storage.artifacts.fingerprints import digest
from storage.decisions.decision import (
    ACCEPT,
    CLEAR,
    REDRAW,
    REJECT,
    RENAME,
    SEVERAL,
    Decision,
    DrawnMask,
)

_Order = tuple[datetime, str]


@dataclass(frozen=True)
class Outcome:
    """What became of a label.

    Attributes:
        category: that it is of, renamed or not.
        mask: its mask_id, of the mask that was drawn or of its own.
        drawn: the mask that replaces its own; None where none does.
        accepted, rejected, several: whether it was accepted, rejected, or found to be of several
            objects.
        first: the decision about the label as it was built; None where there is none.
        sampled: whether it was looked at as one of a random sample.
    """

    category: str
    mask: str
    drawn: DrawnMask | None = None
    accepted: bool = False
    rejected: bool = False
    several: bool = False
    first: Decision | None = None
    sampled: bool = False

    @property
    def is_decided(self) -> bool:
        return self.first is not None


@dataclass(frozen=True)
class Outcomes:
    """Decisions by image, of each label and mask the latest.

    Attributes:
        decisions: how many lines there are, those included that later ones overrule.
        overruled: of these, how many were.
    """

    decisions: int
    overruled: int
    _latest: dict[str, dict[tuple[str, str], Decision]] = field(repr=False)
    _sampled: set[tuple[str, str, str]] = field(repr=False)

    @property
    def latest(self) -> Iterator[Decision]:
        """The decisions that hold: of each label and mask the latest."""
        for of_image in self._latest.values():
            yield from of_image.values()

    @property
    def image_ids(self) -> Collection[str]:
        """The images that decisions name."""
        return self._latest.keys()

    def of_images(self, image_ids: Collection[str]) -> Outcomes:
        """Only those about some images."""
        wanted = set(image_ids)
        latest = {key: found for key, found in self._latest.items() if key in wanted}
        sampled = {each for each in self._sampled if each[0] in wanted}
        return Outcomes(sum(map(len, latest.values())), 0, latest, sampled)

    def digest_of(self, image_id: str) -> str:
        """Digest of what is decided about an image: not of who decided, nor of when, unless the
        order matters."""
        return digest(self._content(image_id))

    @property
    def digest(self) -> str:
        """Digest of what is decided about all images."""
        return digest({image_id: self.digest_of(image_id) for image_id in self._latest})

    def of_label(self, image_id: str, category: str, mask: str) -> Outcome:
        """What became of a label, all decisions followed: of a label that was renamed or redrawn
        also the later ones about it as it was then.

        Args:
            image_id: of its image.
            category: name; mask: mask_id; both as the build made them.
        """
        outcome = Outcome(category, mask)
        for decision in self.path_of(image_id, category, mask):
            if decision.verdict == CLEAR:
                return outcome
            outcome = self._followed(outcome, decision)
        return outcome

    def path_of(self, image_id: str, category: str, mask: str) -> Iterator[Decision]:
        """The decisions that a label's outcome follows from, the first about the label itself."""
        of_image = self._latest.get(image_id, {})
        after: _Order | None = None
        while found := _latest_of(of_image, category, mask, after):
            yield found
            if found.verdict not in (RENAME, REDRAW):
                return
            category = found.to or category
            mask = found.drawn.named(image_id) if found.drawn else mask
            after = found.order

    def _followed(self, before: Outcome, decision: Decision) -> Outcome:
        drawn = decision.drawn or before.drawn
        first = before.first or decision
        return Outcome(
            category=decision.to or before.category,
            mask=drawn.named(decision.image_id) if drawn else before.mask,
            drawn=drawn,
            accepted=decision.verdict == ACCEPT,
            rejected=decision.verdict == REJECT,
            several=decision.verdict == SEVERAL,
            first=first,
            sampled=before.sampled or (
                not before.is_decided
                and not {
                    (decision.image_id, before.category, mask) for mask in (before.mask, "")
                }.isdisjoint(self._sampled)
            ),
        )  # fmt: skip

    def _content(self, image_id: str) -> list[Any]:
        of_image = sorted(self._latest[image_id].items())
        ordered = sorted(decision.order for _, decision in of_image)
        moves = any(decision.verdict in (RENAME, REDRAW) for _, decision in of_image)
        return [
            [
                decision.content,
                (image_id, *key) in self._sampled,
                ordered.index(decision.order) if moves else 0,
            ]
            for key, decision in of_image
        ]


def outcomes_of(decisions: Sequence[Decision]) -> Outcomes:
    """What decisions come to, in whatever order they are given."""
    latest: dict[str, dict[tuple[str, str], Decision]] = {}
    sampled: set[tuple[str, str, str]] = set()
    for decision in decisions:
        of_image = latest.setdefault(decision.image_id, {})
        label = (decision.category, decision.mask)
        if decision.sample:
            sampled.add((decision.image_id, *label))
        if label not in of_image or of_image[label].order <= decision.order:
            of_image[label] = decision
    kept = sum(map(len, latest.values()))
    return Outcomes(len(decisions), len(decisions) - kept, latest, sampled)


def _latest_of(
    of_image: dict[tuple[str, str], Decision], category: str, mask: str, after: _Order | None
) -> Decision | None:
    """The latest decision about a label, of those that name its mask and those that name none."""
    found: Iterable[Decision] = (
        of_image[label] for label in dict.fromkeys([(category, mask), (category, "")])
        if label in of_image
    )  # fmt: skip
    later = [each for each in found if after is None or each.order > after]
    return max(later, key=lambda each: each.order, default=None)
