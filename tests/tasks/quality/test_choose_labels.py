"""Which labels are kept: no leak, one of each group of near-duplicates, by quality and by share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError, CorpusError
from storage.images.records import write_parquet
from tasks.quality import choose_labels
from tasks.stage.contract import SilentProgress
from tasks.stage.layout import CHOSEN_LABELS, DUPLICATES, LABELS, LEAKS, MASKS, RETRIEVAL
from tests.support.runs.builds import rows_of


def labels(store: ArtifactStore, qualities: dict[str, list[float | None]]) -> ArtifactRef:
    """Scored labels of categories with these qualities, in the order of their ranks."""
    rows = [
        {
            "image_id": f"{number:02d}{rank:04d}",
            "mask_id": f"{number:02d}{rank:04d}m",
            "category_id": number,
            "category": name,
            "rank": rank,
            "category_probability": quality,
            "estimated_iou": quality and 1.0,
            "quality": quality,
        }
        for number, (name, values) in enumerate(qualities.items(), start=1)
        for rank, quality in enumerate(values, start=1)
    ]
    return published(store, "score_labels", LABELS, rows)


def published(
    store: ArtifactStore, stage: str, name: str, rows: list[dict], **described: Any
) -> ArtifactRef:
    """An artifact of one table; `described` goes into its manifest."""
    recipe = Recipe(stage=stage, version=1, config={"rows": rows})
    with store.attempt(ArtifactRef(stage, recipe.key())) as attempt:
        with attempt.create(name) as file:
            write_parquet(pa.Table.from_pylist(rows), file)
        return store.publish(attempt, recipe, **{"counts": {}, **described}).ref


def image(category: int, rank: int) -> str:
    """The image that has this rank in `labels` and in `retrieved`."""
    return f"{category:02d}{rank:04d}"


def groups(store: ArtifactStore, *members: list[str]) -> ArtifactRef:
    rows = [{"image_id": each, "group": min(together)} for together in members for each in together]
    counts = {"images": 9, "groups": len(members), "duplicates": len(rows) - len(members)}
    return published(store, "find_duplicates", DUPLICATES, rows, counts=counts)


def leaks(store: ArtifactStore, **sets: list[str]) -> ArtifactRef:
    rows = [{"image_id": each, "keep_out": name} for name, ids in sets.items() for each in ids]
    notes = {
        "keep_out": [{"name": name, "images": 50, "leaks": len(ids)} for name, ids in sets.items()]
    }
    return published(store, "find_leaks", LEAKS, rows, notes=notes)


def retrieved(store: ArtifactStore, **counts: int) -> ArtifactRef:
    """A retrieval with as many kept images of each category, and one row that is not kept."""
    rows = [
        {"image_id": image(number, rank), "category_id": number, "category": name, "rank": rank,
         "score": 0.3, "kept": rank <= count}
        for number, (name, count) in enumerate(counts.items(), start=1)
        for rank in range(1, count + 2)
    ]  # fmt: skip
    return published(store, "retrieve", RETRIEVAL, rows)


def masked(store: ArtifactStore, *rejected: str) -> tuple[ArtifactRef, ...]:
    """Masks of the first nine images of two categories, in two artifacts."""
    refs = []
    for category in (1, 2):
        ids = [image(category, rank) for rank in range(1, 10)]
        rows = [{"image_id": i, "reject_reason": "blank_mask" * (i in rejected)} for i in ids]
        refs.append(published(store, "make_masks", MASKS, rows))
    return tuple(refs)


def choose(
    store: ArtifactStore,
    scored: ArtifactRef,
    *,
    masks: tuple[ArtifactRef, ...] = (),
    duplicates: ArtifactRef | None = None,
    leaks: ArtifactRef | None = None,
    **settings: float,
) -> Artifact:
    return choose_labels.run(
        choose_labels.Config(**settings),
        choose_labels.Inputs(scored, masks, duplicates, leaks),
        store,
        SilentProgress(),
    )


def chosen(store: ArtifactStore, scored: ArtifactRef, **more: Any) -> list[dict]:
    return rows_of(choose(store, scored, **more), CHOSEN_LABELS)


def reasons(rows: list[dict], category: str) -> list[str]:
    return [row["reason"] for row in rows if row["category"] == category]


def test_by_default_all_are_kept(store):
    rows = chosen(store, labels(store, {"cat": [0.9, 0.1, None], "dog": [0.0]}))
    assert all(row["kept"] and row["reason"] == "" for row in rows)


def test_the_least_quality_is_enough(store):
    rows = chosen(store, labels(store, {"cat": [0.5, 0.49, 0.9]}), min_quality=0.5)
    assert reasons(rows, "cat") == ["", "below_min_quality", ""]


def test_the_share_is_of_each_category(store):
    scored = labels(store, {"cat": [0.1, 0.2, 0.3, 0.4, 0.5], "dog": [0.9, 0.8]})
    rows = chosen(store, scored, keep=0.6)
    assert reasons(rows, "cat") == ["below_kept_share", "below_kept_share", "", "", ""]
    assert reasons(rows, "dog") == ["", ""], "one and a fifth are two"


def test_the_share_is_of_those_that_pass_the_least_quality(store):
    scored = labels(store, {"cat": [0.1, 0.6, 0.7, 0.8, 0.9]})
    rows = chosen(store, scored, keep=0.5, min_quality=0.5)
    assert reasons(rows, "cat") == ["below_min_quality", *["below_kept_share"] * 2, "", ""]


def test_of_equal_quality_the_better_rank_is_kept(store):
    rows = chosen(store, labels(store, {"cat": [0.5, 0.5, 0.5, 0.5]}), keep=0.5)
    assert reasons(rows, "cat") == ["", "", "below_kept_share", "below_kept_share"]


def test_labels_without_a_quality_are_kept_and_counted(store):
    scored = labels(store, {"cat": [None, 0.2, 0.9, None]})
    artifact = choose(store, scored, min_quality=0.5, keep=0.5)
    rows = rows_of(artifact, CHOSEN_LABELS)
    assert reasons(rows, "cat") == ["", "below_min_quality", "", ""]
    assert artifact.counts["without_quality"] == 2
    assert artifact.counts["left_out"] == {"below_min_quality": 1}


@pytest.mark.parametrize("keep", np.linspace(0.1, 1, 10).round(1).tolist())
def test_shares_of_ten_are_counted_exactly(store, keep):
    rows = chosen(store, labels(store, {"cat": [n / 20 for n in range(10)]}), keep=keep)
    assert sum(row["kept"] for row in rows) == round(10 * keep)


def test_nothing_left_is_one_sentence(store):
    with pytest.raises(CorpusError, match=r"No label of 2 .* 0.9 .* best has 0.60.* --min-quality"):
        chosen(store, labels(store, {"cat": [0.6, 0.3]}), min_quality=0.9)


def test_of_a_group_each_category_keeps_the_best(store):
    scored = labels(store, {"cat": [0.4, 0.8, 0.6], "dog": [0.5, 0.9]})
    together = groups(store, [image(1, 1), image(1, 2), image(2, 1)], [image(2, 2), "elsewhere"])
    artifact = choose(store, scored, duplicates=together)
    rows = rows_of(artifact, CHOSEN_LABELS)
    assert reasons(rows, "cat") == ["near_duplicate", "", ""]
    assert reasons(rows, "dog") == ["", ""], "of another category, and of a group with no other"
    assert [row["duplicate_of"] for row in rows] == [image(1, 2), "", "", "", ""]
    assert artifact.counts["left_out"] == {"near_duplicate": 1}
    assert artifact.notes["duplicates"] == {"images": 9, "groups": 2, "duplicates": 3}


def test_of_a_group_of_equal_quality_the_best_rank_is_kept(store):
    scored = labels(store, {"cat": [0.5, 0.5, None]})
    rows = chosen(store, scored, duplicates=groups(store, [image(1, n) for n in (1, 2, 3)]))
    assert reasons(rows, "cat") == ["", "near_duplicate", "near_duplicate"]


def test_what_is_left_out_for_its_quality_stands_for_no_group(store):
    """A label without a quality is not below the least, and takes the group's place."""
    scored = labels(store, {"cat": [0.3, None, 0.2, 0.9]})
    together = groups(store, [image(1, 1), image(1, 2)], [image(1, 3), image(1, 4)])
    rows = chosen(store, scored, duplicates=together, min_quality=0.5)
    assert reasons(rows, "cat") == ["below_min_quality", "", "below_min_quality", ""]


def test_the_share_is_of_distinct_images(store):
    scored = labels(store, {"cat": [0.9, 0.8, 0.7, 0.6]})
    together = groups(store, [image(1, n) for n in (1, 2, 3)])
    rows = chosen(store, scored, duplicates=together, keep=0.5)
    assert reasons(rows, "cat") == ["", "near_duplicate", "near_duplicate", "below_kept_share"]


def test_leaks_are_left_out_with_the_set_that_has_them(store):
    scored = labels(store, {"cat": [0.9, 0.8, 0.1]})
    found = leaks(store, val=[image(1, 1)], voc=[image(1, 1), image(1, 3), "elsewhere"])
    artifact = choose(store, scored, leaks=found, min_quality=0.5)
    rows = rows_of(artifact, CHOSEN_LABELS)
    assert reasons(rows, "cat") == ["leak", "", "leak"]
    assert [row["keep_out"] for row in rows] == ["val", "", "voc"]
    assert artifact.notes["keep_out"] == [
        {"name": "val", "images": 50, "leaks": 1},
        {"name": "voc", "images": 50, "leaks": 3},
    ]


def test_of_a_group_the_best_that_is_no_leak_is_kept(store):
    scored = labels(store, {"cat": [0.9, 0.8, 0.7]})
    together, found = (
        groups(store, [image(1, n) for n in (1, 2, 3)]),
        leaks(store, val=[image(1, 1)]),
    )
    rows = chosen(store, scored, duplicates=together, leaks=found)
    assert reasons(rows, "cat") == ["leak", "", "near_duplicate"]


def test_without_a_judgement_the_retrieved_images_with_a_mask_are_the_labels(store):
    """Of a group the best rank is kept, of those that have a mask."""
    together = groups(store, [image(1, n) for n in (1, 2, 3)])
    artifact = choose(
        store,
        retrieved(store, cat=4, dog=1),
        masks=masked(store, image(1, 1)),
        duplicates=together,
        leaks=leaks(store, val=[image(2, 1)]),
    )
    rows = rows_of(artifact, CHOSEN_LABELS)
    assert [row["image_id"] for row in rows] == [*(image(1, n) for n in (2, 3, 4)), image(2, 1)]
    assert reasons(rows, "cat") == ["", "near_duplicate", ""]
    assert reasons(rows, "dog") == ["leak"]
    assert not {"quality", "category_probability", "estimated_iou"} & set(rows[0])
    assert artifact.counts == {
        "labels": 4, "kept": 2, "left_out": {"leak": 1, "near_duplicate": 1},
    }  # fmt: skip


def test_leaks_alone_may_leave_nothing_which_is_one_sentence(store):
    found = leaks(store, val=[image(1, 1)], voc=[image(1, 2)])
    with pytest.raises(CorpusError, match=r"^No label of 2 is left \(2 leak\): .*--keep-out"):
        chosen(store, retrieved(store, cat=2), masks=masked(store), leaks=found)
    scored = labels(store, {"cat": [0.1, None]})
    with pytest.raises(
        CorpusError, match=r"1 below_min_quality, 1 leak\).*--min-quality.*--keep-o"
    ):
        chosen(store, scored, leaks=leaks(store, val=[image(1, 2)]), min_quality=0.5)


def test_no_label_at_all_is_told_by_the_stage_that_knows_why(store):
    rejected = [image(1, 1), image(1, 2)]
    artifact = choose(
        store,
        retrieved(store, cat=2),
        masks=masked(store, *rejected),
        duplicates=groups(store, rejected),
    )
    assert artifact.counts["labels"] == 0


def test_a_choice_by_quality_alone_keeps_its_key_and_columns(store):
    scored = labels(store, {"cat": [0.9]})
    key = choose_labels.locate(choose_labels.Config(), choose_labels.Inputs(scored), store).key
    recipe = Recipe(stage="choose_labels", version=1, config={}, inputs={"labels": scored.key})
    assert key == recipe.key()
    [row] = chosen(store, scored)
    assert not {"keep_out", "duplicate_of"} & set(row)


def test_what_leaves_labels_out_decides_the_key(store):
    scored, found = labels(store, {"cat": [0.9]}), retrieved(store, cat=1)
    together, leaked = groups(store, ["a", "b"]), leaks(store, val=["a"])
    keys = {
        choose_labels.locate(choose_labels.Config(), inputs, store).key
        for inputs in (
            choose_labels.Inputs(scored),
            choose_labels.Inputs(scored, duplicates=together),
            choose_labels.Inputs(scored, leaks=leaked),
            choose_labels.Inputs(scored, duplicates=together, leaks=leaked),
            choose_labels.Inputs(found, masked(store), duplicates=together),
            choose_labels.Inputs(found, masked(store)[:1], duplicates=together),
        )
    }
    assert len(keys) == 6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"keep": 0.0}, "keep is 0%, which leaves no label"),
        ({"keep": 1.2}, "keep is 120%"),
        ({"min_quality": -0.1}, "min_quality is -0.1"),
    ],
)
def test_shares_that_can_not_be_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        choose_labels.Config(**settings)
