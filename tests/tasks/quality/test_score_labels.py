"""Labels are damaged on purpose, learned from, and scored: every label with its quality."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.label_quality import true_iou
from made_world.corpus import read_corpus_ground_truth
from storage.artifacts.store import Artifact
from storage.images.masks import mask_pixels
from tasks.quality import damage_labels, estimator, score_labels
from tasks.quality.label_signals import CORPUS_SIGNALS, REGION_SIGNALS, TEXT_SIGNALS
from tasks.quality.source_masks import mask_rows
from tasks.stage.layout import EXAMPLES, LABELS, RETRIEVAL, RETRIEVED_IMAGES
from tests.support.runs.builds import rows_of

pytestmark = pytest.mark.slow


@pytest.fixture
def damaged(measured_build, run) -> Artifact:
    clip, selfmask = measured_build.build.models
    return run(
        damage_labels,
        damage_labels.Config(clip=clip, selfmask=selfmask, images=14),
        damage_labels.Inputs(
            measured_build.build.retrieval.ref,
            measured_build.masks,
            measured_build.regions,
            measured_build.texts,
        ),
    )


def inputs(measured_build, damaged: Artifact) -> score_labels.Inputs:
    return score_labels.Inputs(
        measured_build.build.retrieval.ref,
        measured_build.regions,
        damaged.ref,
        measured_build.texts,
    )


@pytest.fixture
def scored(measured_build, run, damaged) -> Artifact:
    return run(score_labels, score_labels.Config(), inputs(measured_build, damaged))


def test_examples_are_undamaged_damaged_and_with_neighbours(damaged):
    rows = rows_of(damaged, EXAMPLES)
    ways = Counter(row["way"] for row in rows)
    assert ways["none"] == len({row["group"] for row in rows})
    assert {"with_neighbours", "neighbour"} < ways.keys()
    for row in rows:
        ious = [each["iou"] for each in row["shown"]]
        assert 0 <= min(ious) <= max(ious) <= 1
        if row["way"] == "none":
            assert ious[0] == 1
        if row["way"] == "neighbour":
            assert ious[0] < 0.2, "it is another object's mask"
            assert max(ious[1:], default=1) > 0.5


def test_the_same_seed_damages_the_same_and_another_one_differently(measured_build, run, damaged):
    clip, selfmask = measured_build.build.models
    of_stage = damage_labels.Inputs(
        measured_build.build.retrieval.ref,
        measured_build.masks,
        measured_build.regions,
        measured_build.texts,
    )
    config = damage_labels.Config(clip=clip, selfmask=selfmask, images=14, seed=1)
    other = run(damage_labels, config, of_stage)
    assert other.ref != damaged.ref
    assert rows_of(other, EXAMPLES) != rows_of(damaged, EXAMPLES)


def test_every_kept_label_has_a_row_with_its_signals(measured_build, scored):
    kept = {
        (row["image_id"], row["category_id"])
        for row in rows_of(measured_build.build.retrieval, RETRIEVAL)
        if row["kept"]
    }
    keys = {ref.key for ref in measured_build.masks}
    assert mask_rows(keys, [], measured_build.store) == {}
    rows = rows_of(scored, LABELS)
    assert {(row["image_id"], row["category_id"]) for row in rows} <= kept
    assert len(rows) == scored.counts["labels"] > 0.8 * len(kept)
    for row in rows:
        assert {*TEXT_SIGNALS, *REGION_SIGNALS, *CORPUS_SIGNALS} <= row.keys()
        assert row["quality"] == pytest.approx(
            row["category_probability"] * row["estimated_iou"], rel=1e-5
        )


def test_too_few_labels_are_judged_by_the_formula(scored):
    assert scored.notes["method"] == "formula"
    assert "reliability" not in scored.notes


def test_what_is_learned_agrees_with_the_truth_that_it_never_saw(
    measured_build, run, damaged, monkeypatch
):
    monkeypatch.setattr(estimator, "LEAST_EXAMPLES", 5)
    monkeypatch.setattr(score_labels, "LEAST_EXAMPLES", 5)
    config = score_labels.Config(seed=3)
    learned = run(score_labels, config, inputs(measured_build, damaged))
    assert learned.notes["method"] == "learned"
    assert learned.notes["reliability"]["labels"] > 40
    truth = read_corpus_ground_truth(Path(measured_build.folder)).things
    names = {
        row["image_id"]: PurePosixPath(row["uri"]).name
        for row in rows_of(measured_build.build.retrieval, RETRIEVED_IMAGES)
    }
    rows = rows_of(learned, LABELS)
    found = mask_rows(
        {ref.key for ref in measured_build.masks},
        {row["image_id"] for row in rows},
        measured_build.store,
    )
    masks = {row["mask_id"]: mask_pixels(row) for several in found.values() for row in several}
    true = [
        true_iou(
            row["category"],
            masks[row["mask_id"]],
            truth[names[row["image_id"]]],
        )
        for row in rows
    ]
    assert spearmanr([row["quality"] for row in rows], true).statistic > 0.3
    assert np.isfinite([row["quality"] for row in rows]).all()
