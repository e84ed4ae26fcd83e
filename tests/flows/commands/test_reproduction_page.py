"""The commands of docs/reproduction.md, parsed by the real command line: complete and valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flows.cli import app, run_command_line
from flows.settings.build import BuildSettings
from flows.settings.evaluation import EvaluationSettings
from flows.settings.next_steps import NextSteps

PAGE = Path(__file__).parents[3] / "docs" / "reproduction.md"


class Read(NamedTuple):
    """The settings that a command was parsed to."""

    line: str
    build: BuildSettings | None = None
    steps: NextSteps | None = None
    evaluation: EvaluationSettings | None = None


def commands() -> list[str]:
    """Every `uv run zutis …` of the page, in blocks and in running text."""
    text = re.sub(r"\s*\\\n\s*", " ", PAGE.read_text(encoding="utf-8"))
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.S))
    inline = re.findall(r"`(uv run zutis [^`]*)`", re.sub(r"```sh\n.*?```", "", text, flags=re.S))
    lines = [line for line in blocks.splitlines() if line.startswith("uv run zutis ")]
    return [" ".join(line.split()) for line in [*lines, *inline]]


def read(line: str, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Parse the command; build and evaluate stop after their settings."""
    heard: list[Read] = []
    monkeypatch.setattr(
        "flows.commands.build.run",
        lambda build, steps=None: heard.append(Read(line, build=build, steps=steps)),
    )
    monkeypatch.setattr(
        "flows.commands.evaluate.run",
        lambda evaluation, *_: heard.append(Read(line, evaluation=evaluation)),
    )
    _, _, _, *words = shlex.split(line, comments=True)
    if words[0] in ("build", "evaluate"):
        run_command_line(words)
        return heard[0]
    app.parse_args(words, exit_on_error=False, print_error=False)
    return Read(line)


def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Every evaluation on the page, alone or after a build."""
    found = []
    for line in commands():
        one = read(line, monkeypatch)
        evaluation = one.steps.evaluation if one.steps else one.evaluation
        if evaluation is not None:
            found.append((line, evaluation))
    return found


def builds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    return [one for line in commands() if (one := read(line, monkeypatch)).build]


def test_every_command_can_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(commands()) >= 12
    assert not [line for line in commands() if "…" in line]
    for line in commands():
        read(line, monkeypatch)


def test_evaluations_are_in_float32_at_the_sizes_of_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """bfloat16 is the default on a GPU; only ImageNet-S has a largest size, 1024."""
    found = evaluations(monkeypatch)
    assert {one.on for _, one in found} >= {"coca", "coco2017-val", "coco20k", "imagenet-s919"}
    for line, one in found:
        assert one.precision == "float32", line
        if one.on.startswith("imagenet-s"):
            assert one.image_size == 1024, line
        else:
            assert one.image_size == 0, line


def test_builds_and_trainings_are_those_of_the_published_configurations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = builds(monkeypatch)
    assert {one.build.vocabulary for one in found} >= {"coco", "coca", "imagenet-s919"}
    for one in found:
        build, training = one.build, one.steps.training
        assert (build.overlap, build.precision, training.precision) == (
            "last", "float32", "float32",
        ), one.line  # fmt: skip
        assert (build.per_category, build.mask_size, build.refine_input, build.index) == (
            500, 512, "reference", "exact",
        ), one.line  # fmt: skip
        iterations = 80_000 if build.vocabulary == "imagenet-s919" else 20_000
        assert training.iterations == iterations, one.line


def test_both_published_encoders_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = {
        (one.build.vocabulary, one.steps.training.clip) for one in builds(monkeypatch)
    }  # fmt: skip
    assert clips >= {
        ("coco", "ViT-B-16-quickgelu:openai"),
        ("coco", "ViT-B-32-quickgelu:openai"),
        ("coca", "ViT-B-16-quickgelu:openai"),
        ("imagenet-s919", "ViT-B-16-quickgelu:openai"),
        ("imagenet-s919", "ViT-B-32-quickgelu:openai"),
    }
