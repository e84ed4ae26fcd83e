"""Labels against the truth: pure functions on planted masks, and a run at a tiny size."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import label_quality
from benchmarks.label_quality import (
    HELD_OUT_SEEDS,
    TUNING_SEEDS,
    Label,
    by_category,
    calibration_chart,
    category_is_right,
    elsewhere_auc,
    estimate_of,
    is_on,
    scores_of,
    true_iou,
)
from made_world.corpus import TrueObject


def mask(columns: slice) -> np.ndarray:
    full = np.zeros((4, 10), dtype=np.bool_)
    full[:, columns] = True
    return full


THINGS = (
    TrueObject(kind="star", mask=mask(slice(0, 2))),
    TrueObject(kind="star", mask=mask(slice(4, 8))),
    TrueObject(kind="starfish", mask=mask(slice(8, 10))),
    TrueObject(kind="bat animal", mask=mask(slice(2, 3))),
)


def label(category: str, iou: float, right: bool, quality: float | None = None) -> Label:
    return Label(
        file="a.jpg",
        category=category,
        rank=1,
        mask=mask(slice(0, 1)),
        right=right,
        on_category=iou > 0,
        iou=iou,
        estimates={"quality": quality, "category_probability": quality},
    )


def test_the_true_iou_is_that_with_the_best_object_of_the_category():
    assert true_iou("star", mask(slice(4, 8)), THINGS) == 1.0
    assert true_iou("star", mask(slice(4, 10)), THINGS) == pytest.approx(4 / 6)
    assert true_iou("star", mask(slice(8, 10)), THINGS) == 0.0
    assert true_iou("house", mask(slice(4, 8)), THINGS) == 0.0


def test_a_category_is_right_if_an_object_goes_by_its_name():
    assert category_is_right("star", THINGS)
    assert category_is_right("bat", THINGS)
    assert category_is_right("bat animal", THINGS)
    assert not category_is_right("wooden bat", THINGS)
    assert not category_is_right("house", THINGS)
    assert true_iou("bat", mask(slice(2, 4)), THINGS) == 0.5


def test_a_mask_is_on_what_it_overlaps_most():
    assert is_on("star", mask(slice(5, 9)), THINGS)
    assert is_on("star", mask(slice(7, 9)), THINGS), "as much of a star as of a starfish"
    assert not is_on("star", mask(slice(7, 10)), THINGS)
    assert not is_on("star", mask(slice(3, 4)), THINGS), "on nothing"
    assert is_on("bat", mask(slice(2, 3)), THINGS)


def test_probabilities_are_compared_with_what_masks_are_on():
    labels = [
        label("star", iou, True, quality) for iou, quality in ((0, 0.2), (0.5, 0.6), (0, 0.7))
    ]
    assert elsewhere_auc(labels) == 0.5
    assert np.isnan(elsewhere_auc(labels[:1]))


def test_scores_count_labels_of_a_wrong_category_as_zero():
    labels = [label("star", 0.9, True), label("star", 0.3, True), label("cup", 0.0, False)]
    scores = scores_of(labels)
    assert scores["retrieval precision"] == pytest.approx(2 / 3)
    assert scores["mean true IoU"] == pytest.approx(0.4)
    assert scores["mean true IoU where the category is right"] == pytest.approx(0.6)
    assert scores["true IoU of 0.5 or more"] == pytest.approx(1 / 3)
    assert by_category(labels)["cup"] == {"precision": 0.0, "true IoU": 0.0}


def test_quality_is_compared_with_the_truth_where_there_is_one():
    labels = [
        *(label("star", iou=0.1 * at, right=at > 0, quality=0.1 * at) for at in range(10)),
        label("star", iou=1.0, right=True, quality=None),
    ]
    worth = estimate_of(labels)
    assert worth.labels == 10
    assert worth.spearman == pytest.approx(1)
    assert worth.calibration_error == pytest.approx(0)
    assert worth.wrong_category_auc == worth.gain == 1


def test_the_chart_of_the_calibration_is_an_svg_with_a_line_for_each_world():
    worth = estimate_of([label("star", 0.1 * at, True, 0.1 * at) for at in range(10)])
    chart = ElementTree.fromstring(calibration_chart({301: worth, 302: worth}))
    assert chart.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [each.text for each in chart.iter() if each.text]
    for name in ("seed 301", "seed 302", "exact"):
        assert any(text.startswith(name) for text in texts)


def test_seeds_for_tuning_are_not_measured_by_default():
    assert not set(TUNING_SEEDS) & set(HELD_OUT_SEEDS)


@pytest.mark.slow
def test_a_tiny_world_is_labelled_and_scored(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    measured = label_quality.measure([11], images=60, per_category=2)
    measured.report.write(out)
    result = json.loads(out.read_text())
    assert result["figures"].keys() > scores_of([label("star", 0.5, True)]).keys()
    assert result["figures"]["area under the ROC, wrong category"]["at_least"] == 0.95
    sample = result["samples"]["seed 11"]
    assert sample["quality"]["method"] == "formula", "too few labels to learn from"
    assert sample["quality"]["labels"] == sample["labels"] == len(measured.labels[11])
    assert 24 <= sample["labels"] <= 32
    assert 14 <= len(sample["categories"]) <= 16, "nearly all have a label"
    assert "/tmp" not in out.read_text().partition('"command"')[0]
