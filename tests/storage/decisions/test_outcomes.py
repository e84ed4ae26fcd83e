"""What decisions come to: the latest holds, in whatever order and split files have them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from storage.decisions.decision import Decision, DrawnMask
from storage.decisions.outcomes import Outcome, outcomes_of

IMAGE, MASK = "ab" * 32, "cd" * 16
DRAWN = DrawnMask(2, 3, "132")
REDRAWN = DRAWN.named(IMAGE)


def at(second: int, verdict: str, **values: Any) -> Decision:
    given = {"image_id": IMAGE, "category": "zebra", "mask": MASK} | values
    when = datetime(2030, 1, 31, tzinfo=UTC) + timedelta(seconds=second)
    return Decision(verdict=verdict, when=when, **given)


def outcome(*decisions: Decision, category: str = "zebra", mask: str = MASK) -> Outcome:
    """The outcome, the same for every order of the lines."""
    found = {
        outcomes_of(order).of_label(IMAGE, category, mask)
        for order in itertools.permutations(decisions)
    }
    [one] = found
    return one


def test_the_latest_wins() -> None:
    assert outcome(at(0, "accept"), at(1, "reject")).rejected
    assert not outcome(at(0, "reject"), at(1, "accept")).rejected
    assert not outcome(at(0, "reject"), at(1, "clear")).is_decided
    assert not outcome().is_decided


def test_at_the_same_time_the_order_of_the_lines_does_not_matter() -> None:
    outcome(at(0, "accept"), at(0, "reject"), at(0, "several"))


def test_other_labels_of_the_image_stay() -> None:
    assert not outcome(at(0, "reject"), category="horse").is_decided
    assert not outcome(at(0, "reject"), mask="ef" * 16).is_decided
    assert outcome(at(0, "reject", mask=""), mask="ef" * 16).rejected


def test_the_latest_of_those_with_a_mask_and_those_without() -> None:
    assert not outcome(at(0, "reject"), at(1, "accept", mask="")).rejected
    assert outcome(at(0, "accept", mask=""), at(1, "reject")).rejected


def test_labels_are_followed_through_names_and_masks() -> None:
    renamed = at(0, "rename", to="horse")
    redrawn = at(1, "redraw", category="horse", drawn=DRAWN)
    assert outcome(renamed, redrawn) == Outcome(
        "horse", REDRAWN, DRAWN, first=renamed, accepted=False
    )
    assert outcome(renamed, redrawn, at(2, "reject", category="horse", mask=REDRAWN)).rejected
    several = outcome(renamed, redrawn, at(2, "several", category="horse", mask=REDRAWN))
    assert several.several
    assert several.drawn == DRAWN


def test_earlier_decisions_about_what_a_label_became_are_not_followed() -> None:
    renamed = at(1, "rename", to="horse")
    assert not outcome(renamed, at(0, "reject", category="horse")).rejected


def test_a_label_that_is_renamed_back_and_forth_ends_where_the_last_one_left_it() -> None:
    there = at(0, "rename", to="horse")
    back = at(1, "rename", category="horse", to="zebra")
    again = at(2, "rename", to="horse")
    assert outcome(there, back).category == "zebra"
    assert outcome(there, back, again).category == "horse"


def test_sampled_labels_stay_so_whatever_is_decided_later() -> None:
    assert outcome(at(0, "accept", sample=50), at(1, "reject")).sampled
    assert not outcome(at(0, "accept")).sampled
    renamed = outcome(at(0, "rename", to="horse"), at(1, "accept", category="horse", sample=9))
    assert not renamed.sampled, "of the label as it was built, nothing was sampled"


def test_digests_are_of_what_is_decided_and_not_of_who_and_when() -> None:
    one = outcomes_of([at(0, "accept", who="Ana")])
    other = outcomes_of([at(5, "reject"), at(9, "accept", who="Bo")])
    assert one.digest == other.digest
    assert one.digest != outcomes_of([at(0, "reject")]).digest
    elsewhere = at(3, "reject", image_id="12" * 32)
    both = outcomes_of([at(0, "accept"), elsewhere])
    assert both.digest_of(IMAGE) == one.digest_of(IMAGE)
    assert both.of_images([IMAGE]).digest == one.digest


@pytest.mark.parametrize("first", ["zebra", "horse"])
def test_where_the_order_decides_it_is_in_the_digest(first: str) -> None:
    other = {"zebra": "horse", "horse": "zebra"}[first]
    one = outcomes_of([at(0, "rename", category=first, to=other),
                       at(1, "rename", category=other, to=first)])  # fmt: skip
    two = outcomes_of([at(1, "rename", category=first, to=other),
                       at(0, "rename", category=other, to=first)])  # fmt: skip
    assert one.of_label(IMAGE, first, MASK) != two.of_label(IMAGE, first, MASK)
    assert one.digest != two.digest


def test_counts_of_decisions() -> None:
    found = outcomes_of([at(0, "accept"), at(1, "reject"), at(0, "accept", image_id="12" * 32)])
    assert (found.decisions, found.overruled) == (3, 1)
    assert set(found.image_ids) == {IMAGE, "12" * 32}
