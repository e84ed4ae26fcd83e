"""Options are declared in one place: a made-up option appears in commands, files and flows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from cyclopts import App
from prefect import flow
from pydantic import Field

from flows.commands.options import command_of
from flows.settings.next_steps import BuildOptions, NextSteps
from flows.settings.options import Group, given_by, part_of, values_for, with_parameters_of
from flows.settings.training import TrainingSettings
from storage.errors.exceptions import ConfigError


class MadeOptions(BuildOptions):
    """The options of a build, and one more."""

    made_up: Annotated[int, Field(ge=2, le=9), Group.MASKS] = 3
    """How much of it is made up."""


@dataclass(frozen=True)
class StageConfig:
    """The configuration of a stage that reads the option."""

    overlap: str
    made_up: int


@flow
@with_parameters_of(MadeOptions)
def made_flow(**parameters: Any) -> int:
    """A flow."""
    return MadeOptions(**given_by(MadeOptions, parameters)).made_up


NEEDED = ["--corpus", "photos", "--vocabulary", "coco"]


def heard(words: Sequence[str], kind: type[BuildOptions] = MadeOptions) -> Any:
    """The settings that a command is called with."""
    calls: list[Any] = []
    app = App(name="made", result_action="return_value")
    app.default(command_of(kind)(calls.append))
    command, bound, _ = app.parse_args(list(words), exit_on_error=False, print_error=False)
    command(*bound.args, **bound.kwargs)
    return calls[0]


def test_the_command_line_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert heard(NEEDED).made_up == 3
    assert heard([*NEEDED, "--made-up", "5"]).made_up == 5
    assert heard([*NEEDED, "--made-up", "5", "--made-up", "6"]).made_up == 6, "the last one counts"
    with pytest.raises(ConfigError, match="made_up is 1: input should be greater than or equal"):
        heard([*NEEDED, "--made-up", "1"])
    app = App(name="made", result_action="return_value")
    app.default(command_of(MadeOptions)(print))
    app(["--help"])
    said = capsys.readouterr().out
    masks = said[said.index("─ Masks ") : said.index("─ Shards ")]
    assert "--made-up INT" in masks
    assert "How much of it is made up. [default: 3]" in " ".join(masks.split())


def test_a_file_gives_way_to_what_is_typed(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "corpus: photos\nvocabulary: coco\nmade-up: 7\nper_category: 20\n"
        "training: {iterations: 5}\ninclude: ['*.jpg']\n"
    )
    read = heard(["--config", str(file)])
    assert (read.corpus, read.made_up, read.per_category) == (("photos",), 7, 20)
    assert (read.training.iterations, read.include) == (5, ("*.jpg",))
    over = heard(["--config", str(file), "--made-up", "8", "--set", "per_category=30"])
    assert (over.made_up, over.per_category, over.vocabulary) == (8, 30, "coco")
    file.write_text("corpus: photos\nvocabulary: coco\nmade_upp: 7\n")
    with pytest.raises(ConfigError, match="no setting made_upp of the build; did you mean made_up"):
        heard(["--config", str(file)])


def test_what_is_needed_may_come_from_a_file_or_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="The build needs corpus: give --corpus"):
        heard([])


def test_the_flow_has_it_as_a_parameter_with_its_bounds_and_its_help() -> None:
    parameter = made_flow.parameters.properties["made_up"]
    assert (parameter["minimum"], parameter["maximum"], parameter["default"]) == (2, 9, 3)
    assert parameter["description"] == "How much of it is made up."
    assert made_flow.parameters.required == ["corpus", "vocabulary"]
    assert made_flow.fn(corpus="photos", vocabulary="coco", made_up=4) == 4


def test_a_stage_gets_it_by_its_name() -> None:
    options = MadeOptions(corpus="photos", vocabulary="coco", made_up=4)
    assert values_for(StageConfig, options) == {"overlap": "best", "made_up": 4}


def test_a_clip_that_is_given_is_trained_from_too_unless_another_is_named() -> None:
    clip = ["--clip", "ViT-B-32-quickgelu:openai", "--then", "train"]
    assert heard([*NEEDED, *clip]).training.clip == "ViT-B-32-quickgelu:openai"
    own = heard([*NEEDED, *clip, "--training", "clip=ViT-B-16:x", "--training", "iterations=7"])
    assert (own.training.clip, own.training.iterations) == ("ViT-B-16:x", 7)
    published = heard([*NEEDED, *clip, "--recipe", "zutis-coco"])
    assert published.clip == "ViT-B-32-quickgelu:openai"
    assert published.training.clip == "ViT-B-16-quickgelu:openai"
    assert heard([*NEEDED, "--then", "train"]).training.clip == TrainingSettings().clip


def test_parts_keep_what_was_given_apart_from_defaults() -> None:
    steps = part_of(NextSteps, heard([*NEEDED, "--then", "train"]))
    assert steps.trains
    assert steps.model_fields_set == {"then"}


@pytest.mark.parametrize(
    ("word", "value"),
    [("none", None), ("2.5", 2.5)],
)
def test_a_number_that_may_be_none(word: str, value: float | None) -> None:
    chosen = heard([*NEEDED, "--training", f"max_gradient_norm={word.replace('none', 'null')}"])
    assert chosen.training.max_gradient_norm == value
