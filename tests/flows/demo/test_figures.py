"""Figures and their goals: which goals are reached, and how figures are computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest

from flows.demo.command_lines import demo_commands
from flows.demo.figures import DemoScores, figures, left_out
from flows.demo.page import goals_in_words
from flows.demo.scores import Retrieved, ScoredMask
from flows.demo.settings import DEFAULT, QUICK
from flows.pipelines.training import Evaluated
from storage.artifacts.store import Artifact

COMMANDS = demo_commands(DEFAULT, "0" * 20, "1" * 20, "2" * 20)


@dataclass
class Published:
    metrics: dict[str, Any]

    def read_json(self, name: str) -> dict[str, Any]:
        assert name == "metrics.json"
        return self.metrics


def evaluation(mean_iou, ap50, unseen) -> Artifact:
    metrics = {
        "semantic": {"mean_iou_with_background": mean_iou, "unseen": {"mean_iou": unseen}},
        "instance": {"by_category": {"ap50": ap50}},
        "classes": [
            {"name": "background", "group": ""},
            {"name": "bell", "group": "seen"},
            {"name": "key", "group": "unseen"},
        ],
    }
    return cast(Artifact, Published(metrics))


def mask(iou: float) -> ScoredMask:
    quarter = np.zeros((2, 2), dtype=np.bool_)
    quarter[0, 0] = True
    return ScoredMask(
        image_id="0",
        kind="bell",
        rank=1,
        jpeg=b"",
        mask=quarter,
        truth=quarter,
        iou=iou,
        right=True,
    )


@pytest.fixture
def scores() -> DemoScores:
    rights = {"bell": [True] * 20, "key": [True] * 18 + [False] * 2}
    retrieved = [
        Retrieved(kind=kind, rank=rank, image_id="", file="", right=right)
        for kind, several in rights.items()
        for rank, right in enumerate(several, 1)
    ]
    evaluated = Evaluated(evaluation(0.66, 0.45, 0.30), evaluation(0.33, 0.20, 0.20))
    return DemoScores(
        retrieved=retrieved,
        masks=[mask(0.8), mask(0.96)],
        evaluated=evaluated,
        partly=evaluated,
        chance=0.0625,
        commands=COMMANDS,
        seconds=330.0,
    )


def test_each_goal_has_a_line(scores):
    found = {one.name: (one.value, one.reached) for one in figures(scores, DEFAULT)}
    assert list(found.values()) == [
        ("95.0%", True),
        ("88.0%", True),
        ("66.0%", True),
        ("2.00 x", True),
        ("45.0%", True),
        ("2.25 x", False),
        ("30.0%", None),
        ("1.50 x", True),
        ("5.5 min", True),
    ]
    assert next(iter(found)) == f"retrieval precision@{DEFAULT.per_category}"


def test_each_result_stands_beside_its_baseline(scores):
    assert [one.baseline for one in figures(scores, DEFAULT)] == [
        "6.2%, images at random",
        "25.0%, whole images as masks",
        "33.0%, MaskCLIP",
        "33.0%, MaskCLIP",
        "20.0%, MaskCLIP",
        "20.0%, MaskCLIP",
        "20.0%, MaskCLIP",
        "20.0%, MaskCLIP",
        "",
    ]


def test_each_figure_has_the_command_that_gives_it_again(scores):
    again, whole, partly, anew = (
        COMMANDS.again, COMMANDS.evaluate, COMMANDS.evaluate_partly, COMMANDS.anew
    )  # fmt: skip
    wanted = [again, again, whole, whole, whole, whole, partly, partly, anew]
    assert [one.command for one in figures(scores, DEFAULT)] == wanted
    [*_, time] = figures(replace(scores, seconds=None), DEFAULT)
    assert time.command == anew


def test_notes_name_what_matters(scores):
    notes = [one.note for one in figures(scores, DEFAULT)]
    assert "lowest 90.0%, key" in notes[0]
    assert "2 masks" in notes[1]
    assert "33.0%" in notes[3]
    assert notes[6] == "key"


def test_what_was_not_measured_is_not_reached(scores):
    [*_, time] = figures(replace(scores, seconds=None), DEFAULT)
    assert (time.value, time.reached) == ("—", None)


def test_what_has_no_goal_is_neither_reached_nor_missed(scores):
    goals = replace(DEFAULT.goals, ap50=None)
    found = figures(scores, replace(DEFAULT, goals=goals))
    assert (found[4].goal, found[4].reached) == ("", None)


def test_every_run_is_judged_by_its_baseline(scores):
    behind = Evaluated(evaluation(0.50, 0.01, 0.20), evaluation(0.40, 0.316, 0.30))
    found = figures(replace(scores, evaluated=behind, partly=behind), QUICK)
    ratios = {one.name: one.reached for one in found if "times MaskCLIP's" in one.name}
    assert list(ratios.values()) == [True, False, False]
    assert "goals reached" in goals_in_words(tuple(found))


def test_a_baseline_of_nothing_is_no_division_by_zero(scores):
    evaluated = Evaluated(evaluation(0.66, 0.45, 0.30), evaluation(0.0, 0.0, 0.0))
    found = figures(replace(scores, evaluated=evaluated, partly=evaluated), DEFAULT)
    assert found[3].value == "inf x"
    assert found[3].reached


def test_nothing_is_not_more_than_nothing(scores):
    nothing = evaluation(0.0, 0.0, 0.0)
    found = figures(replace(scores, evaluated=Evaluated(nothing, nothing)), DEFAULT)
    assert [(found[place].value, found[place].reached) for place in (3, 5)] == [
        ("0.00 x", False)
    ] * 2


def test_kinds_left_out(scores):
    assert left_out(scores.partly) == ("key",)
