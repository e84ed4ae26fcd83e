"""NAME=VALUE on the command line: values of the right types, mistakes as one sentence."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from flows.settings.evaluation import EvaluationSettings
from flows.settings.named_values import read_values
from flows.settings.next_steps import NextSteps
from flows.settings.training import TrainingSettings, training_config
from storage.errors.exceptions import ConfigError, ZutisError
from storage.vocabularies.category_splits import SPLITS
from storage.vocabularies.vocabulary import load_vocabulary
from tasks.prediction.segmenter import InstanceSettings
from tasks.training import train
from tasks.training.samples import SampleRecipe
from tasks.training.step import Optimisation


def test_values_are_yaml_and_later_ones_win(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("iterations: 10\ncrop: 96\n")
    items = [str(tmp_path / "recipe.yaml"), "crop=128", "leave_out=[cat, hot dog]", "ema_decay="]
    assert read_values(items) == {
        "iterations": 10, "crop": 128, "leave_out": ["cat", "hot dog"], "ema_decay": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("iteration", "neither NAME=VALUE nor a file"),
        ("crop=[1", "mistake in the value of crop"),
    ],
)
def test_what_is_no_value(item: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        read_values([item])
    assert "\n" not in str(caught.value)


def test_a_file_without_settings(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds no settings"):
        read_values([str(tmp_path / "list.yaml")])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"iteration": 3}, "no setting iteration of the training; did you mean iterations"),
        ({"xyz": 3}, "no setting xyz of the training, only .*iterations, rounds, batch_size"),
        ({"iterations": "many"}, "iterations is 'many': input should be a valid integer"),
        ({"iterations": 0}, "iterations is 0: input should be greater than or equal to 1"),
        ({"missing_categories": "maybe"}, "missing_categories is 'maybe': choose train or stop"),
        ({"jitter": [1, 2]}, r"jitter is \[1, 2\]: give 4 values"),
    ],
)
def test_mistakes_are_one_sentence(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        TrainingSettings(**values)
    assert "\n" not in str(caught.value)


def test_an_evaluation_needs_a_data_set() -> None:
    with pytest.raises(ConfigError, match="The evaluation needs on: give --on"):
        EvaluationSettings()  # type: ignore[call-arg]


def test_the_defaults_are_those_of_the_stages() -> None:
    config = training_config(TrainingSettings(clip="ViT-S-32-alt:random:0", device="cpu"))
    assert config.optimisation == Optimisation()
    assert config.samples == SampleRecipe()
    assert config == train.Config(clip=config.clip)
    assert EvaluationSettings(on="coca").instances == InstanceSettings()


def test_every_setting_of_the_stage_can_be_set() -> None:
    stage = {
        field.name
        for kind in (train.Config, Optimisation, SampleRecipe)
        for field in fields(kind)
    } - {"optimisation", "samples"}  # fmt: skip
    of_the_command = {"device", "precision", "recipe", "rounds"}
    assert stage | of_the_command == TrainingSettings.model_fields.keys()


def test_a_split_stands_for_its_categories() -> None:
    settings = TrainingSettings(
        clip="ViT-S-32-alt:random:0", device="cpu", leave_out=("coco-65-15", "zebra")
    )
    assert training_config(settings).leave_out == (*SPLITS["coco-65-15"], "zebra")


@pytest.mark.parametrize(
    ("split", "vocabulary", "number"), [("coco-65-15", "coco", 15), ("voc2012-15-5", "voc2012", 5)]
)
def test_splits_are_of_the_shipped_vocabularies(split: str, vocabulary: str, number: int) -> None:
    names = {category.name for category in load_vocabulary(vocabulary).categories}
    assert len(set(SPLITS[split])) == number
    assert set(SPLITS[split]) <= names


def test_steps_that_can_not_be() -> None:
    with pytest.raises(ConfigError, match="choose none, train or train"):
        NextSteps(then="evaluate")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="give --evaluation on=DATASET"):
        NextSteps(then="train+evaluate")
    missing = NextSteps(
        then="train+evaluate",
        training=TrainingSettings(clip="ViT-S-32-alt:random:0"),
        evaluation=EvaluationSettings(on="coco:nowhere.json"),
    )
    with pytest.raises(ZutisError, match=r"nowhere\.json") as caught:
        missing.check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["9" * 5_000, "2026-13-40", "&a [*a]", "[" * 2_000])
def test_values_that_no_yaml_reader_can_make_are_one_sentence(value: str) -> None:
    with pytest.raises(ConfigError, match="There is a mistake in the value of iterations"):
        read_values([f"iterations={value}"])
