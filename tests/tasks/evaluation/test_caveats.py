"""Caveats of scores: absent categories, ambiguous frames, images of the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.images.records import write_parquet
from tasks.evaluation.caveats import ScoredImages, absent_categories, frame_caveats, leakage


def row(name: str, pixels: int, objects: int = 0) -> dict[str, Any]:
    return {"name": name, "pixels": pixels, "objects": objects}


def test_categories_absent_from_the_ground_truth_are_named() -> None:
    classes = [row("background", 0), row("cat", 5), row("dog", 0), row("owl", 0, objects=2)]
    [said] = absent_categories(classes, "mine")
    assert said.startswith("1 of the 3 categories are nowhere in the truth of mine (dog)")
    assert absent_categories([row("background", 0), row("cat", 5)], "mine") == []


def test_a_ground_truth_without_any_category_is_reported_with_the_likely_cause() -> None:
    classes = [row("background", 9), row("cat", 0), row("dog", 0)]
    [said] = absent_categories(classes, "mine")
    assert said.startswith("The truth of mine shows none of its 2 categories")
    assert "255 with 8 bits" in said


def test_images_whose_frame_is_open_are_named() -> None:
    assert frame_caveats(ScoredImages(), upright=False) == []
    [said] = frame_caveats(ScoredImages(frame_chosen=["a.jpg"]), upright=True)
    assert "EXIF turns a.jpg" in said
    assert "upright=false" in said


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


def training(store: ArtifactStore, keys: list[str]) -> ArtifactRef:
    recipe = Recipe(stage="assemble_dataset", version=1, config={})
    with store.attempt(ArtifactRef("assemble_dataset", recipe.key())) as attempt:
        with attempt.create("index.parquet") as file:
            write_parquet(pa.table({"key": keys}), file)
        dataset = store.publish(attempt, recipe)
    recipe = Recipe(stage="train", version=1, config={}, inputs={"dataset": dataset.key})
    with store.attempt(ArtifactRef("train", recipe.key())) as attempt:
        return store.publish(attempt, recipe).ref


def test_images_that_were_trained_on_are_counted(store: ArtifactStore) -> None:
    trained = training(store, ["a", "b", "c"])
    [said] = leakage(trained, "m", ScoredImages(sha256s=["a", "x", "c"]), store)
    assert said.startswith("2 of the 3 images are in the training's data set")
    assert leakage(trained, "m", ScoredImages(sha256s=["x"]), store) == []


def test_unknown_training_data_is_reported(store: ArtifactStore) -> None:
    trained = training(store, ["a"])
    dataset = store.get(trained).manifest["inputs"]["dataset"]
    store.delete(ArtifactRef("assemble_dataset", dataset))
    [said] = leakage(trained, "the model", ScoredImages(sha256s=["a"]), store)
    assert said.startswith("Whether the model was trained on these images can't be known: its data")
    [said] = leakage(None, "FILE.pt", ScoredImages(sha256s=["a"]), store)
    assert said.startswith("Whether FILE.pt was trained on these images can't be known: a check")
