"""The categories of an evaluation, from its settings and the data set's own names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.pipelines.training import TrainedModel, _categories
from flows.settings.evaluation import EvaluationSettings
from flows.settings.next_steps import NextSteps
from flows.settings.training import TrainingSettings
from storage.errors.exceptions import ConfigError
from storage.evaluation_sets.opening import open_evaluation_set
from tests.support.files.evaluation_layouts import write_coco


@pytest.fixture
def on(tmp_path: Path) -> str:
    names = {1: "red", 2: "green", 3: "blue"}
    write_coco(tmp_path / "mine.json", tmp_path, {"a.png": (6, 6)}, [], names)
    return f"coco:{tmp_path}/mine.json"


def asked(on: str, lines: str, **settings: Any) -> list[str]:
    path = Path(on.removeprefix("coco:")).with_name("names.txt")
    path.write_text(lines)
    chosen = EvaluationSettings(on=on, vocabulary=str(path), **settings)
    used = open_evaluation_set(on, None)
    return [each.name for each in _categories(chosen, used, TrainedModel(clip="", label=""))]


def test_names_in_another_order_are_asked_for_in_the_sets(on: str) -> None:
    assert asked(on, "blue\nGreen\nred\n") == ["red", "Green", "blue"]


def test_other_words_need_a_word_about_their_order(on: str) -> None:
    words = "crimson\nmoss\nsky\n"
    with pytest.raises(ConfigError, match=r"classes=\{NAME: CLASS, …\}, or with classes=in-order"):
        asked(on, words)
    assert asked(on, words, classes="in-order") == ["crimson", "moss", "sky"]
    classes = {"sky": "red", "crimson": "blue", "moss": "green"}
    assert asked(on, words, classes=classes) == ["sky", "moss", "crimson"]
    assert asked(on, words, collapse_to="colour") == ["crimson", "moss", "sky"]


def test_classes_without_a_vocabulary_say_nothing(on: str) -> None:
    with pytest.raises(ConfigError, match="give a vocabulary"):
        EvaluationSettings(on=on, classes="in-order")


def test_a_build_that_ends_in_an_evaluation_checks_the_names_first(on: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("crimson\nmoss\nsky\n")
    settings = EvaluationSettings(on=on, vocabulary=str(tmp_path / "names.txt"))
    with pytest.raises(ConfigError, match="classes=in-order"):
        NextSteps(
            then="train+evaluate",
            training=TrainingSettings(clip="made-ViT-8:random:0"),
            evaluation=settings,
        ).check()
