"""Commands that reproduce the demonstration's figures: they parse to the settings of the run."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.cli import app, exit_code_of, run_command_line
from flows.demo.command_lines import (
    HERE,
    demo_commands,
    demo_line,
    evaluate_line,
    predict_line,
)
from flows.demo.figures import DemoScores, figures
from flows.demo.report import further_commands
from flows.demo.scores import Retrieved, ScoredMask
from flows.demo.settings import CLIP, DEFAULT, LEFT_OUT, QUICK, VOCABULARY_FILE, DemoSize
from flows.execution.executors import LocalExecutor
from flows.execution.progress import StageProgress
from flows.pipelines.training import evaluate_model, trained_model
from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import ArtifactRef, ArtifactStore
from tasks.evaluation import evaluate
from tasks.training import train
from tests.support.files.evaluation_layouts import annotation, box, write_coco

SIZES = [QUICK, DEFAULT, replace(QUICK, device="cpu")]
KEYS = {"dataset": "0123456789abcdef", "training": "1123456789abcdef", "partly": "2123456789abcdef"}


def heard(line: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    """The settings that a command would run with."""
    [program, *words] = shlex.split(line)
    assert program == "zutis"
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(f"flows.commands.{words[0]}.run", lambda *given: calls.append(given))
    run_command_line(words)
    [call] = calls
    return call


def parse(line: str) -> None:
    """Exits with a usage error for arguments that the real parser rejects; runs nothing."""
    [program, *words] = shlex.split(line)
    assert program == "zutis"
    app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("size", SIZES)
def test_the_parser_knows_every_command(size: DemoSize) -> None:
    commands = demo_commands(size, **KEYS)
    lines = [*asdict(commands).values(), *(line for _, line in further_commands(size, commands))]
    assert len(lines) >= 12
    for line in lines:
        parse(line)


@pytest.mark.parametrize("size", SIZES)
def test_evaluations_are_asked_for_as_the_run_asked(size, monkeypatch) -> None:
    commands = demo_commands(size, **KEYS)
    for line, key in ((commands.evaluate, "training"), (commands.evaluate_partly, "partly")):
        settings, checkpoint, store = heard(line, monkeypatch)
        assert settings == size.evaluation_settings(HERE)
        assert KEYS[key].startswith(checkpoint)
        assert store == "store"
        assert "--set image_size=128" in line


@pytest.mark.parametrize("size", SIZES)
def test_trainings_are_asked_for_as_the_run_asked(size, monkeypatch) -> None:
    commands = demo_commands(size, **KEYS)
    for line, left_out in ((commands.train, ()), (commands.train_partly, LEFT_OUT)):
        settings, dataset, store = heard(line, monkeypatch)
        assert settings == size.training_settings(left_out)
        assert KEYS["dataset"].startswith(dataset)
        assert store == "store"


@pytest.mark.parametrize("size", SIZES)
def test_the_build_is_asked_for_as_the_run_asked(size, monkeypatch) -> None:
    settings, steps = heard(demo_commands(size, **KEYS).build, monkeypatch)
    assert settings == size.build_settings(Path(), VOCABULARY_FILE)
    assert not steps.trains


def test_a_device_that_was_named_is_named_again() -> None:
    named = replace(QUICK, device="cuda:1")
    assert demo_line(named) == "zutis demo --quick --folder . --device cuda:1"
    assert "--device cuda:1" in evaluate_line(named.evaluation_settings(HERE), "0123456789abcdef")
    assert "--device" not in evaluate_line(QUICK.evaluation_settings(HERE), "0123456789abcdef")
    assert demo_line(DEFAULT, folder="again") == "zutis demo --folder again"


def test_words_with_spaces_are_quoted() -> None:
    assert "--categories 'red heart,house'" in predict_line("red heart,house", 0.2)


class Publishing(LocalExecutor):
    """Publishes made-up scores under the keys of the evaluations."""

    def _run(self, progress: StageProgress, config: Any, inputs: Any) -> list[Any]:
        recipe = evaluate._recipe(config, inputs[0])
        with self.store.attempt(ArtifactRef(evaluate.NAME, recipe.key())) as attempt:
            attempt.create_json(evaluate.METRICS, metrics_of(config.method))
            return [self.store.publish(attempt, recipe)]


def metrics_of(method: str) -> dict[str, Any]:
    ours = method == "zutis"
    ap = dict.fromkeys(
        ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100",
         "ar_small", "ar_medium", "ar_large"), 0.0711 if ours else 0.3162)  # fmt: skip
    rows = [
        {"name": name, "group": group, "iou": 0.5, "ap": None, "pixels": 5, "objects": 1}
        for name, group in (("background", ""), ("star", "seen"), ("heart", "unseen"))
    ]
    return {
        "evaluation_set": {"name": "annotations", "images": 1, "images_of_the_set": 1},
        "model": {"label": method, "method": method, "untrained": False},
        "semantic": {
            "mean_iou_with_background": 0.3834 if ours else 0.3017,
            "mean_iou_without_background": None,
            "pixel_accuracy": None,
            "mean_accuracy": None,
            "frequency_weighted_iou": None,
            "seen": {"categories": 1, "mean_iou": 0.5},
            "unseen": {"categories": 1, "mean_iou": 0.2618 if ours else 0.3074},
        },
        "instance": {"by_category": ap, "class_agnostic": ap},
        "classes": rows,
    }


def test_a_printed_command_gives_the_figures_digits(tmp_path, monkeypatch, capsys) -> None:
    """The command runs in the demonstration's folder, as for users; the scores are made up."""
    monkeypatch.chdir(tmp_path)
    things = [annotation(1, 1, box(5, 5, 30, 30), area=625.0)]
    scenes = Path("scenes")
    write_coco(
        scenes / "annotations.json", scenes / "images", {"a.png": (64, 80)}, things,
        {1: "star", 2: "heart"},
    )  # fmt: skip
    store = ArtifactStore("store")
    recipe = Recipe(stage="train", version=1, config={})
    with store.attempt(ArtifactRef("train", recipe.key())) as attempt:
        attempt.create_json(train.MODEL_CARD, {"clip": CLIP, "config": {"leave_out": ["heart"]}})
        training = store.publish(attempt, recipe)
    settings = QUICK.evaluation_settings(HERE)
    evaluated = evaluate_model(settings, trained_model(training), Publishing(store))
    commands = demo_commands(QUICK, "0123456789ab", training.key, training.key)
    truth = np.ones((2, 2), dtype=np.bool_)
    scores = DemoScores(
        retrieved=[Retrieved(kind="star", rank=1, image_id="", file="", right=True)],
        masks=[
            ScoredMask(
                kind="star",
                image_id="0",
                rank=1,
                jpeg=b"",
                mask=truth,
                truth=truth,
                iou=1,
                right=True,
            )
        ],
        evaluated=evaluated,
        partly=evaluated,
        chance=0.5,
        commands=commands,
        seconds=1.0,
    )
    measured = [one for one in figures(scores, QUICK) if one.command.startswith("zutis evaluate")]
    assert len(measured) == 6
    rows = ("mean IoU, background included", "AP50 ", "mean IoU, 1 unseen categories")
    for one, row in zip(measured, [row for row in rows for _ in range(2)], strict=True):
        assert exit_code_of(lambda line=one.command: run_command_line(shlex.split(line)[1:])) == 0
        printed = capsys.readouterr().out
        assert "Starting Prefect" not in printed, "the scores are there, under that very name"
        [cells] = [line.split() for line in printed.splitlines() if line.strip().startswith(row)]
        theirs, ours, ratio = cells[-3:]
        assert one.baseline == f"{theirs}%, MaskCLIP"
        assert one.value in (f"{ours}%", f"{ratio} x")
