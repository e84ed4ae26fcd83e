"""Named recipes: the published settings, and settings that override them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.build_pseudolabels import build_pseudolabels
from flows.cli import exit_code_of, run_command_line
from flows.settings.build import BuildSettings
from flows.settings.evaluation import EvaluationSettings
from flows.settings.next_steps import BuildOptions
from flows.settings.options import given_by, options_of
from flows.settings.recipes import (
    RECIPE_NAMES,
    departures,
    published_recipe,
)
from flows.settings.training import TrainingSettings, training_config, training_title
from storage.errors.exceptions import ConfigError

RANDOM = {"clip": "ViT-B-32-quickgelu:random:0", "device": "cpu", "precision": "float32"}
NOT_PUBLISHED = {"recipe", "device", "leave_out", "weight_by", "missing_categories", "workers",
                 "micro_batch", "checkpoint_every", "keep_checkpoints", "log_every",
                 "compiled", "rounds"}  # fmt: skip
NOT_IN_A_BUILD = {"corpus", "vocabulary", "include", "exclude", "uri_column", "unusual_images",
                  "crops", "bit_depth", "shard_mb", "part_images", "mask_part_images",
                  "absolute_paths", "name", "device", "workers", "runner", "ray_address", "repair",
                  "store", "quality", "min_quality", "keep", "quality_clip", "duplicates",
                  "duplicate_groups", "keep_out", "objects", "decisions", "embeddings",
                  "masks"}  # fmt: skip
NOT_IN_A_SCORE = {"recipe", "on", "data", "vocabulary", "classes", "collapse_to", "seen",
                  "baseline", "maskclip", "clip", "device", "upright", "skip_bad",
                  "limit"}  # fmt: skip


def test_imagenet_s_trains_80_000_iterations_and_the_others_20_000() -> None:
    trained = {name: TrainingSettings(recipe=name).iterations for name in RECIPE_NAMES}
    assert trained == {
        "zutis-coco": 20_000,
        "zutis-coco-vit-b-32": 20_000,
        "zutis-coca": 20_000,
        "zutis-imagenet-s919": 80_000,
        "zutis-imagenet-s919-vit-b-32": 80_000,
    }


@pytest.mark.parametrize("name", RECIPE_NAMES)
def test_a_recipe_has_every_setting_that_decides_a_result(name: str) -> None:
    recipe = published_recipe(name)
    assert recipe.training.keys() == TrainingSettings.model_fields.keys() - NOT_PUBLISHED
    # A new option belongs in the recipes, or here if no published setting corresponds to it.
    assert recipe.build.keys() == BuildSettings.model_fields.keys() - NOT_IN_A_BUILD
    assert recipe.evaluation.keys() == EvaluationSettings.model_fields.keys() - NOT_IN_A_SCORE
    for part in (recipe.build, recipe.training, recipe.evaluation):
        assert part["precision"] == "float32"
    assert (recipe.build["overlap"], recipe.build["refine_input"]) == ("last", "reference")
    assert ("vit-b-32" in name) == (recipe.training["clip"] == "ViT-B-32-quickgelu:openai")
    largest = 1024 if "imagenet-s" in name else 0
    assert EvaluationSettings(on="coca", recipe=name).image_size == largest


def test_what_is_given_wins_and_is_told() -> None:
    chosen = TrainingSettings(recipe="zutis-imagenet-s919", iterations=20_000, crop=96)
    assert (chosen.iterations, chosen.crop, chosen.precision) == (20_000, 96, "float32")
    told = departures("training", chosen.recipe, chosen.model_dump())
    assert told == {"iterations": 20_000, "crop": 96}
    assert training_title(chosen, "abc").endswith(
        "on abc, zutis-imagenet-s919, but iterations 20000, crop 96"
    )
    assert departures("training", "", TrainingSettings().model_dump()) == {}
    whole = TrainingSettings(recipe="zutis-coco").model_dump(mode="json")
    assert TrainingSettings.model_validate(whole) == TrainingSettings(recipe="zutis-coco")


def test_a_recipe_changes_no_key_where_its_settings_are_the_same() -> None:
    plain, named = TrainingSettings(**RANDOM), TrainingSettings(recipe="zutis-coco", **RANDOM)
    assert training_config(plain).deciding == training_config(named).deciding


def test_an_unknown_recipe_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="zutis-imagenet-s919") as caught:
        TrainingSettings(recipe="zutis-cocoo")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="no recipe 'coco': choose one of zutis-coco"):
        published_recipe("coco")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings that the commands would have run with."""
    calls: list[Any] = []
    for command in ("build", "train", "evaluate"):
        monkeypatch.setattr(
            f"flows.commands.{command}.run", lambda *all_of_it: calls.append(all_of_it)
        )
    return calls


def run(*words: str) -> int:
    return exit_code_of(lambda: run_command_line(list(words)))


def test_the_commands_take_a_recipe(heard: list[Any]) -> None:
    corpus = ["build", "--corpus", "pictures", "--vocabulary", "imagenet-s919"]
    recipe = ["--recipe", "zutis-imagenet-s919"]
    then = ["--then", "train+evaluate", "--evaluation", "on=imagenet-s919"]
    assert run(*corpus, *recipe, *then) == 0
    assert run(*corpus, *recipe, "--overlap", "best", "--training", "iterations=5", *then) == 0
    assert run("train", *recipe, "--crop", "96") == 0
    assert run("evaluate", *recipe, "--on", "coca", "--limit", "3") == 0
    (build, steps), (other, others), (training, *_), (evaluation, *_) = heard
    assert (build.overlap, build.precision, build.refine_input) == ("last", "float32", "reference")
    assert (steps.training.iterations, steps.evaluation.precision) == (80_000, "float32")
    assert (other.overlap, others.training.iterations) == ("best", 5)
    assert (training.iterations, training.crop, training.precision) == (80_000, 96, "float32")
    assert (evaluation.image_size, evaluation.limit, evaluation.precision) == (1024, 3, "float32")


def test_a_build_without_what_follows_takes_its_part_alone(heard: list[Any]) -> None:
    assert run("build", "--corpus", "p", "--vocabulary", "coco", "--recipe", "zutis-coco") == 0
    assert run("build", "--corpus", "p", "--vocabulary", "coco") == 0
    (build, steps), (plain, _) = heard
    assert (build.overlap, steps.then) == ("last", "none")
    assert (plain.overlap, plain.precision, plain.refine_input) == ("best", "auto", "original")
    assert run("build", "--corpus", "p", "--vocabulary", "coco", "--recipe", "coco") == 2


def test_of_a_form_defaults_yield_to_the_recipe(tmp_path: Path) -> None:
    form = {option.name: option.default for option in options_of(BuildOptions)}
    form |= {"corpus": ["p"], "vocabulary": "coca", "mask_size": 256, "store": str(tmp_path)}
    form |= {"recipe": "zutis-coca", "training": TrainingSettings(crop=96)}
    chosen = BuildOptions(**given_by(BuildOptions, form))
    assert (chosen.overlap, chosen.precision, chosen.mask_size) == ("last", "float32", 256)
    other = BuildOptions(**given_by(BuildOptions, {**form, "recipe": "zutis-imagenet-s919"}))
    assert (other.training.iterations, other.training.crop) == (80_000, 96)
    plain = BuildOptions(**given_by(BuildOptions, {**form, "recipe": ""}))
    assert (plain.overlap, plain.training.iterations) == ("best", 20_000)


def test_the_form_offers_the_recipes() -> None:
    offered = build_pseudolabels.parameters.properties["recipe"]["enum"]
    assert offered == ["", *RECIPE_NAMES]
