"""Overlap policies for images that several categories retrieve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.artifacts.store import Artifact
from storage.corpora.image_bytes import read_image_bytes
from storage.errors.exceptions import ConfigError, CorpusError, VocabularyError
from tasks.indexing.index_rows import load_index_rows
from tasks.retrieval.retrieve import (
    Config,
    _failed_threshold,
    _keep_all,
    _keep_best,
    _keep_last,
    _keepers,
)
from tasks.retrieval.text_rows import load_text_rows
from tasks.stage.layout import RETRIEVAL, RETRIEVED_IMAGES
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip
from tests.support.runs.builds import rows_of
from tests.support.runs.stages import Stages

# Two reds that differ little, so that they want the same images.
NAMES = ["red", "red and grey", "blue"]
REASONS = {"best": "more_probable_elsewhere", "last": "taken_by_later_category"}

# Three images, three categories. A row: image, category, rank, probability.
TABLE = [
    (0, 0, 1, 0.6),
    (0, 1, 3, 0.4),  # image 0: 0 is more probable, 1 is later
    (1, 0, 2, 0.5),
    (1, 2, 1, 0.5),  # image 1: as probable, and 2 ranks it higher
    (2, 0, 3, 0.3),
    (2, 1, 3, 0.3),  # image 2: as probable, as high: the first category
]


@pytest.mark.parametrize(
    ("keep", "keepers"),
    [
        (_keep_best, [0, 0, 2, 2, 0, 0]),
        (_keep_last, [1, 1, 2, 2, 1, 1]),
        (_keep_all, [0, 1, 0, 2, 0, 1]),
    ],
)
def test_policies_on_a_table_made_by_hand(keep: Any, keepers: list[int]) -> None:
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 4, 2, 0]):  # the order of the rows tells nothing
        which, column, rank, probability = (
            np.array(values) for values in zip(*(TABLE[i] for i in order), strict=True)
        )
        assert keep(which, column, rank, probability).tolist() == [keepers[i] for i in order]


@pytest.fixture
def index(stages: Stages, corpus: Path, fake_clip: FakeClip) -> Artifact:
    write_corpus(corpus, ["red", "green", "blue", "grey"], each=5)
    # Otherwise every probability is 0 or 1.
    fake_clip.logit_scale = 8.0
    return stages.index(stages.scan(corpus, part_images=6))


def expected(index: Artifact, stages: Stages, names: list[str]) -> dict[str, np.ndarray]:
    """Softmax over the whole vocabulary at the logit scale, by image_id."""
    rows, ids = load_index_rows(index, stages.store)
    images = rows.fetch(np.arange(len(rows))).astype(np.float64)
    texts, logits = load_text_rows(stages.texts(names), stages.store)
    powers = np.exp(logits.scale * images @ texts.T.astype(np.float64))
    return dict(zip(ids.to_pylist(), powers / powers.sum(axis=1, keepdims=True), strict=True))


@pytest.mark.parametrize("overlap", ["best", "all", "last"])
def test_each_policy_against_plain_arithmetic(
    overlap: str, stages: Stages, index: Artifact
) -> None:
    k = 7
    retrieval = stages.retrieve(index, NAMES, k, overlap)
    table = rows_of(retrieval, RETRIEVAL)
    softmax = expected(index, stages, NAMES)
    wanted: dict[str, list[dict[str, Any]]] = {}
    for row in table:
        wanted.setdefault(row["image_id"], []).append(row)
    assert any(len(rows) > 1 for rows in wanted.values()), "nothing overlaps: a test of nothing"

    assert [(row["category_id"], row["rank"]) for row in table] == [
        (category, rank) for category in (1, 2, 3) for rank in range(1, k + 1)
    ]
    for row in table:
        own = softmax[row["image_id"]]
        place = row["category_id"] - 1
        assert row["category"] == f"{NAMES[place]} ({row['category_id']})"
        assert row["probability"] == pytest.approx(own[place], rel=1e-5)
        assert row["margin"] == pytest.approx(own[place] - np.delete(own, place).max(), abs=1e-6)
        rivals = wanted[row["image_id"]]
        keeper = {
            "best": max(rivals, key=lambda r: (r["probability"], -r["rank"]))["category_id"],
            "last": max(r["category_id"] for r in rivals),
            "all": row["category_id"],
        }[overlap]
        kept = keeper == row["category_id"]
        assert (row["kept"], row["kept_by"]) == (kept, keeper)
        assert row["reason"] == ("" if kept else REASONS[overlap])
    kept_rows = sum(row["kept"] for row in table)
    assert retrieval.counts == {
        "rows": 21, "kept": kept_rows, "dropped": 21 - kept_rows, "images": len(wanted)
    }  # fmt: skip
    assert (kept_rows == 21) == (overlap == "all")


def test_categories_of_equal_prompts_tie_and_the_first_keeps(
    stages: Stages, index: Artifact
) -> None:
    names = ["green", "red", "blue", "grey", "red", "yellow", "red"]
    table = rows_of(stages.retrieve(index, names, 5), RETRIEVAL)
    reds = [[row for row in table if row["category_id"] == number] for number in (2, 5, 7)]
    for first, second, third in zip(*reds, strict=True):
        assert first["image_id"] == second["image_id"] == third["image_id"]
        assert first["probability"] == second["probability"] == third["probability"]
        assert first["margin"] <= 0  # as probable elsewhere
        assert first["kept_by"] == second["kept_by"] == third["kept_by"]
        assert (second["kept"], third["kept"]) == (False, False)
    assert any(row["kept"] for row in reds[0])


def test_images_below_a_threshold_are_dropped_with_the_reason(
    stages: Stages, index: Artifact
) -> None:
    names = ["red", "blue", "yellow"]
    free = rows_of(stages.retrieve(index, names, 20), RETRIEVAL)
    middle = sorted(row["score"] for row in free)[len(free) // 2]
    for overlap in ("best", "all", "last"):
        retrieval = stages.retrieve(index, names, 20, overlap, min_score=middle)
        table = rows_of(retrieval, RETRIEVAL)
        low = [row for row in table if row["score"] < middle]
        assert low
        assert {(row["kept"], row["reason"]) for row in low} == {(False, "below_min_score")}
        kept = {row["image_id"] for row in table if row["kept"]}
        assert kept == {row["image_id"] for row in table if row["score"] >= middle}
        assert {row["image_id"] for row in rows_of(retrieval, RETRIEVED_IMAGES)} == kept
        assert retrieval.counts["images"] == len(kept)


@pytest.mark.parametrize(("name", "value"), [("min_probability", 0.5), ("min_margin", 0.2)])
def test_probability_and_margin_have_thresholds_too(
    name: str, value: float, stages: Stages, index: Artifact
) -> None:
    table = rows_of(stages.retrieve(index, NAMES, 9, "all", **{name: value}), RETRIEVAL)
    measured = [row[name.removeprefix("min_")] for row in table]
    assert [row["kept"] for row in table] == [number >= value for number in measured]
    assert {row["reason"] for row in table} == {"", f"below_{name}"}


def test_thresholds_that_nothing_passes_are_one_sentence(stages: Stages, index: Artifact) -> None:
    with pytest.raises(CorpusError, match=r"No image passes .* highest score is 0\.\d{3}"):
        stages.retrieve(index, NAMES, 9, min_score=1.0)


@pytest.mark.parametrize("wrong", [{"min_score": -0.1}, {"min_margin": 2}, {"min_probability": 2}])
def test_thresholds_have_bounds(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is "):
        Config(**wrong)


def test_negative_cosines_are_never_kept() -> None:
    failed = _failed_threshold(
        Config(), np.array([-0.01, 0.0, 0.2]), np.ones(3), np.array([0.5, -0.5, 0.5])
    )
    assert failed.tolist() == ["negative_score", "", ""]


def test_an_image_that_one_category_may_not_have_goes_to_the_next() -> None:
    which, column = np.array([0, 0, 1]), np.array([0, 1, 0])
    probability, rank = np.array([0.9, 0.1, 0.9]), np.array([1, 1, 2])
    failed = np.array(["below_min_score", "", "below_min_score"])
    keepers = _keepers(Config(), failed, which, column, rank, probability)
    assert keepers.tolist() == [1, 1, -1]


def test_prompts_that_clip_reads_as_one_text_are_refused(stages: Stages, index: Artifact) -> None:
    with pytest.raises(VocabularyError, match=r"'red .*' and 'red thing .*' as one text"):
        stages.retrieve(index, ["green", "red", "red thing"], 5)


def test_images_are_listed_once_with_where_their_bytes_are(stages: Stages, index: Artifact) -> None:
    from hashlib import sha256

    retrieval = stages.retrieve(index, NAMES, 9)
    images = rows_of(retrieval, RETRIEVED_IMAGES)
    ids = [row["image_id"] for row in images]
    assert ids == sorted({row["image_id"] for row in rows_of(retrieval, RETRIEVAL)})
    embedded = {part.key for part in stages.store.published("embed_images")}
    for row in images:
        data = read_image_bytes(row["uri"], row["offset"], row["length"])
        assert sha256(data).hexdigest() == row["image_id"]
        assert row["embedded"] in embedded


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="overlap is 'first': choose best, all, last"):
        Config(overlap="first")


def test_a_siglips_probabilities_are_independent_sigmoids(
    stages: Stages, index: Artifact, fake_clip: FakeClip
) -> None:
    fake_clip.logit_bias = -6.0
    alone, together = (
        {row["image_id"]: row for row in rows_of(stages.retrieve(index, names, 20), RETRIEVAL)
         if row["category_id"] == 1}
        for names in (["red"], NAMES)
    )  # fmt: skip
    for image_id, row in alone.items():
        sigmoid = 1 / (1 + np.exp(6.0 - 8.0 * row["score"]))
        assert row["probability"] == pytest.approx(sigmoid, rel=1e-3)
        assert row["margin"] == row["probability"]  # no rival
        assert together[image_id]["probability"] == pytest.approx(row["probability"], rel=1e-6)
    kept = stages.retrieve(index, NAMES, 20, "all", min_probability=0.7).counts["kept"]
    assert 0 < kept < 60
