"""Which labels are kept: by the least quality and by the best share of each category."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError, CorpusError
from storage.images.records import write_parquet
from tasks.quality import choose_labels
from tasks.stage.contract import SilentProgress
from tasks.stage.layout import CHOSEN_LABELS, LABELS
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
    recipe = Recipe(stage="score_labels", version=1, config={"rows": rows})
    with store.attempt(ArtifactRef("score_labels", recipe.key())) as attempt:
        with attempt.create(LABELS) as file:
            write_parquet(pa.Table.from_pylist(rows), file)
        return store.publish(attempt, recipe, counts={}).ref


def chosen(store: ArtifactStore, scored: ArtifactRef, **settings: float) -> list[dict]:
    artifact = choose_labels.run(
        choose_labels.Config(**settings), choose_labels.Inputs(scored), store, SilentProgress()
    )
    return rows_of(artifact, CHOSEN_LABELS)


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
    artifact = choose_labels.run(
        choose_labels.Config(min_quality=0.5, keep=0.5),
        choose_labels.Inputs(scored),
        store,
        SilentProgress(),
    )
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
