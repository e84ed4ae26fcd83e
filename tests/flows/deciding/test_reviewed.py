"""Which labels are under review, in which order, and random samples of them."""

from __future__ import annotations

import json

import pytest

from flows.builds.found import FoundBuild, build_of
from flows.deciding.reviewed import labels_to_review
from flows.settings.options import changed
from storage.decisions.decision import Decision, now
from storage.decisions.decision_file import append_decisions
from storage.errors.exceptions import ConfigError
from storage.images.masks import mask_id
from tests.support.runs.builds import build_here


def test_all_labels_by_category_and_rank(build: FoundBuild) -> None:
    found = labels_to_review(build)
    assert found.categories == {1: 4, 2: 4, 3: 4}
    best = found.ordered(0, "best")
    assert [found.labels.category(label) for label in best] == [1] * 4 + [2] * 4 + [3] * 4
    of_green = found.ordered(2, "best")
    ranks = [int(found.labels.rank[label]) for label in of_green]
    assert ranks == sorted(ranks)
    assert len(of_green) == 4


def test_by_quality_those_without_one_come_last(build: FoundBuild) -> None:
    found = labels_to_review(build)
    reds = found.ordered(1, "best")
    for label, quality in zip(reds[:3], (0.2, 0.9, 0.5), strict=True):
        found.labels.quality[label] = quality
    best, worst = (found.ordered(1, order).tolist() for order in ("best", "worst"))
    assert best == [reds[1], reds[2], reds[0], reds[3]]
    assert worst == [reds[0], reds[2], reds[1], reds[3]]


def test_masks_are_called_as_in_the_samples(build: FoundBuild) -> None:
    found = labels_to_review(build)
    samples = found.labels.samples
    for label in found.drawn:
        facts = json.loads(samples.read(int(label)).facts)
        height, width = facts["mask"]["size"]
        name = mask_id(facts["image_id"], height, width, facts["mask"]["counts"])
        assert found.mask_of(int(label)) == name


def test_a_sample_is_the_same_for_a_seed_and_of_each_category_by_itself(build: FoundBuild) -> None:
    one = labels_to_review(build, sample=2)
    assert one.sizes == {1: 2, 2: 2, 3: 2}
    assert one.drawn.tolist() == labels_to_review(build, sample=2).drawn.tolist()
    green = labels_to_review(build, ["green"], sample=2)
    assert green.drawn.tolist() == one.ordered(2, "random").tolist()
    several = {tuple(labels_to_review(build, ["green"], 2, seed).drawn) for seed in range(20)}
    assert len({label for drawn in several for label in drawn}) == 4, "each label may be drawn"
    more = labels_to_review(build, ["green"], sample=3)
    assert more.drawn[:2].tolist() == green.drawn.tolist(), "a larger one continues a smaller one"
    assert labels_to_review(build, ["green"], sample=50).sizes == {2: 4}


def test_what_is_left_after_decisions_is_no_sample(settings, build, file) -> None:
    found = labels_to_review(build)
    reject = Decision(
        image_id=found.labels.image_id(0), category="red", verdict="reject", when=now()
    )
    append_decisions(file, [reject])
    decided = build_of(build_here(changed(settings, decisions=str(file))).dataset)
    assert len(labels_to_review(decided).drawn) == 11
    with pytest.raises(ConfigError, match=r"changed 1 labels of this build.*without --decisions"):
        labels_to_review(decided, sample=2)


def test_categories_that_there_are_not(build: FoundBuild) -> None:
    with pytest.raises(ConfigError, match="no category 'mauve'"):
        labels_to_review(build, ["mauve"])
