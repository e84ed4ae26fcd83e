"""Verdicts, counts and undo; two reviewers at once; files that others change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from flows.builds.found import build_of
from flows.deciding.reviewing import Reviewing
from flows.settings.options import changed
from storage.decisions.decision import Decision, DrawnMask
from storage.decisions.decision_file import append_decisions, read_decisions
from storage.errors.exceptions import ConfigError, CorpusError
from tests.support.runs.builds import build_here

Review = Callable[..., Reviewing]


def test_each_verdict_is_a_line_and_a_state(review: Review, file) -> None:
    one = review("Ana")
    for label, verdict in enumerate(("accept", "reject", "several")):
        one.decide(label, verdict)
    one.decide(3, "rename", "blue")
    states = [one.state_of(label) for label in range(5)]
    assert states == ["accepted", "rejected", "several", "renamed", ""]
    assert one.counts()["looked_at"] == 4
    lines = read_decisions(str(file))
    assert [line.verdict for line in lines] == ["accept", "reject", "several", "rename"]
    assert {line.who for line in lines} == {"Ana"}
    assert lines[0].mask == one.reviewed.mask_of(0)
    assert lines[3].to == "blue"


def test_undo_brings_back_what_was_before(review: Review, file) -> None:
    one = review()
    one.decide(0, "rename", "blue")
    second = one.decide(0, "reject")
    assert one.take_back(second) == 0
    assert one.state_of(0) == "renamed"
    first = one.decide(1, "accept")
    one.take_back(first)
    assert one.state_of(1) == ""
    assert len(read_decisions(str(file))) == 5, "nothing is removed"
    with pytest.raises(ConfigError, match="can't be taken back any more"):
        one.take_back(first)


def test_undo_brings_back_all_steps_of_a_label(review: Review, file) -> None:
    one = review()
    one.decide(0, "rename", "blue")
    then = Decision(
        image_id=one.reviewed.labels.image_id(0), category="blue", verdict="reject",
        when=datetime(2090, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    append_decisions(file, [then])
    one.refresh()
    assert one.state_of(0) == "rejected"
    one.take_back(one.decide(0, "accept"))
    assert one.state_of(0) == "rejected"


def test_undo_does_not_overrule_somebody_else(review: Review) -> None:
    ana, bo = review("Ana"), review("Bo")
    number = ana.decide(0, "accept")
    bo.decide(0, "reject")
    with pytest.raises(ConfigError, match="Somebody has decided"):
        ana.take_back(number)
    assert ana.state_of(0) == "rejected"


def test_a_decision_wins_over_one_of_a_clock_that_is_ahead(review: Review, file) -> None:
    one = review()
    ahead = Decision(
        image_id=one.reviewed.labels.image_id(0), category="red", verdict="reject",
        when=datetime(2090, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    append_decisions(file, [ahead])
    one.decide(0, "accept")
    assert one.state_of(0) == "accepted"


def test_two_reviewers_at_once_lose_nothing(review: Review, file) -> None:
    several = [review(f"{number}") for number in range(3)]

    def decide(one: Reviewing) -> None:
        for label in range(12):
            one.decide(label, "accept")

    threads = [threading.Thread(target=decide, args=(one,)) for one in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(read_decisions(str(file))) == 36
    for one in several:
        one.refresh()
        assert one.counts()["looked_at"] == 12


def test_a_file_that_is_replaced_is_read_anew(review: Review, file) -> None:
    one = review()
    one.decide(0, "reject")
    one.decide(1, "reject")
    first, _ = file.read_text().splitlines()
    file.write_text(f"{first}\n")
    one.refresh()
    assert [one.state_of(label) for label in (0, 1)] == ["rejected", ""]
    file.unlink()
    one.refresh()
    assert one.counts()["looked_at"] == 0


def test_a_last_line_without_its_end_counts_and_nothing_is_lost(review: Review, file) -> None:
    one = review()
    one.decide(0, "reject")
    file.write_text(file.read_text().rstrip())
    one.refresh()
    assert one.state_of(0) == "rejected"
    one.decide(1, "accept")
    assert [each.verdict for each in read_decisions(str(file))] == ["reject", "accept"]


def test_a_bad_line_is_one_sentence_until_it_is_corrected(review: Review, file) -> None:
    one = review()
    one.decide(0, "reject")
    good = file.read_text()
    file.write_text(f"{good}reject the second one\n")
    for _ in range(2):
        with pytest.raises(CorpusError, match=r"Line 2 of .*decisions.jsonl is no decision"):
            one.refresh()
    file.write_text(good)
    one.refresh()
    assert one.state_of(0) == "rejected"


def test_decisions_about_other_images_and_masks_are_kept_and_change_nothing(review, file) -> None:
    one = review()
    when = datetime(2030, 1, 1, tzinfo=UTC)
    mine = one.reviewed.labels.image_id(0)
    append_decisions(file, [
        Decision(image_id="ab" * 32, category="red", verdict="reject", when=when),
        Decision(image_id=mine, category="red", mask="cd" * 16, verdict="reject", when=when),
    ])  # fmt: skip
    one.refresh()
    assert one.counts()["looked_at"] == 0
    one.decide(0, "accept")
    assert len(read_decisions(str(file))) == 3


def test_a_corrected_mask_is_shown_as_such(review: Review, file) -> None:
    one = review()
    append_decisions(file, [Decision(
        image_id=one.reviewed.labels.image_id(0), category="red", verdict="redraw",
        drawn=DrawnMask(2, 3, "132"), when=datetime(2030, 1, 1, tzinfo=UTC),
    )])  # fmt: skip
    one.refresh()
    assert one.state_of(0) == "redrawn"


def test_only_what_is_decided_about_a_sample_counts_for_it(review, file, settings) -> None:
    picked = review()
    picked.decide(0, "reject")
    sample = review(sample=4)
    assert sample.counts()["looked_at"] == 0
    for label in sample.reviewed.ordered(1, "random")[:3].tolist():
        sample.decide(label, "accept")
    row = sample.counts()["categories"][0]
    assert (row["looked_at"], row["share"]) == (3, 1)
    assert row["low"] < 0.5
    assert {each.sample for each in read_decisions(str(file))} == {0, 4}
    built = build_of(build_here(changed(settings, decisions=str(file))).dataset)
    [estimate] = built.plan.counts["decided"]["precision"]
    assert estimate["looked_at"] == 3


@pytest.mark.parametrize(("verdict", "to"), [("rename", ""), ("accept", "blue"), ("rename", "red"),
                                            ("redraw", ""), ("keep", "")])  # fmt: skip
def test_what_is_no_verdict_writes_nothing(review: Review, file, verdict: str, to: str) -> None:
    with pytest.raises(ConfigError):
        review().decide(0, verdict, to)
    assert not file.exists()
