"""Labels of objects against the truth: pure functions on planted masks, and a tiny run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import label_objects
from benchmarks.label_objects import ObjectLabel, category_of, scores_of
from made_world.corpus import TrueObject

VOCABULARY = ("star", "house", "bat")


def mask(columns: slice) -> np.ndarray:
    full = np.zeros((8, 40), dtype=np.bool_)
    full[:, columns] = True
    return full


TRUTH = {
    "a.jpg": (
        TrueObject(kind="star", mask=mask(slice(0, 10))),
        TrueObject(kind="house", mask=mask(slice(12, 20))),
        TrueObject(kind="starfish", mask=mask(slice(30, 40))),
    ),
    "b.jpg": (TrueObject(kind="bat animal", mask=mask(slice(0, 10))),),
    "c.jpg": (),
}


def label(file: str, category: str, columns: slice, score: float = 0.9) -> ObjectLabel:
    return ObjectLabel(file=file, category=category, mask=mask(columns), score=score)


def test_a_vocabulary_calls_an_object_by_its_kind_or_its_word():
    star, _, starfish = TRUTH["a.jpg"]
    assert category_of(star, VOCABULARY) == "star"
    assert category_of(starfish, VOCABULARY) is None
    assert category_of(TRUTH["b.jpg"][0], VOCABULARY) == "bat"


def test_perfect_labels_have_perfect_scores():
    labels = [
        label("a.jpg", "star", slice(0, 10)),
        label("a.jpg", "house", slice(12, 20)),
        label("b.jpg", "bat", slice(0, 10)),
    ]
    scores = scores_of(labels, TRUTH, VOCABULARY)
    assert scores == {
        "recall": 1.0, "recall of any category": 1.0, "AP50": pytest.approx(1.0), "precision": 1.0,
        "labels an image": 1.0,
    }  # fmt: skip


def test_wrong_names_look_alikes_and_poor_masks_count_against_labels():
    labels = [
        label("a.jpg", "house", slice(0, 10)),  # a star
        label("a.jpg", "star", slice(30, 40), 0.5),  # a look-alike
        label("b.jpg", "bat", slice(0, 4), 0.4),  # a part
        label("c.jpg", "star", slice(0, 4), 0.3),  # nothing
    ]
    scores = scores_of(labels, TRUTH, VOCABULARY)
    assert scores["recall"] == 0
    assert scores["recall of any category"] == pytest.approx(1 / 3)
    assert scores["precision"] == 0.25
    assert scores["AP50"] == 0


@pytest.mark.slow
def test_a_tiny_world_is_labelled_both_ways_and_scored(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    label_objects.measure([11], images=24, per_category=1, mask_size=96).write(out)
    result = json.loads(out.read_text())
    sample = result["samples"]["seed 11"]
    assert sample["one"]["labels an image"] <= 1
    assert {"recall, many over one", "AP50, many over one"} <= result["figures"].keys()
