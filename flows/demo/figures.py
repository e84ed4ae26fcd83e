"""The demonstration's figures beside their baselines and goals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from flows.demo.command_lines import DemoCommands
from flows.demo.page import Figure
from flows.demo.scores import Retrieved, ScoredMask, precisions
from flows.demo.settings import DemoSize
from flows.pipelines.training import Evaluated
from tasks.evaluation.evaluate import METRICS
from tasks.evaluation.score_table import times

_BASELINE: Final = "MaskCLIP"


@dataclass(frozen=True, kw_only=True)
class DemoScores:
    """The measurements of a run.

    Attributes:
        retrieved: every retrieved image.
        masks: every pseudo-mask of an image with objects.
        evaluated: evaluation of the network trained on all kinds, and of MaskCLIP.
        partly: evaluation of the network trained without some kinds, and of MaskCLIP.
        chance: the precision of images that are taken at random, 0..1, mean over the kinds.
        commands: the command lines that reproduce the figures.
        seconds: wall time of the run that made everything; None if that was interrupted.
    """

    retrieved: Sequence[Retrieved]
    masks: Sequence[ScoredMask]
    evaluated: Evaluated
    partly: Evaluated
    chance: float
    commands: DemoCommands
    seconds: float | None


def figures(scores: DemoScores, size: DemoSize) -> list[Figure]:
    """A line for each goal, in the order of the pipeline."""
    return [*_of_the_labels(scores, size), *_of_the_models(scores, size), *_of_time(scores, size)]


def _of_the_labels(scores: DemoScores, size: DemoSize) -> Iterator[Figure]:
    shares = precisions(scores.retrieved)
    worst = min(shares, key=lambda kind: shares[kind])
    yield _share(
        f"retrieval precision@{size.per_category}",
        float(np.mean(list(shares.values()))),
        f"{scores.chance:.1%}, images at random",
        size.goals.precision,
        scores.commands.again,
        f"mean over {len(shares)} categories; lowest {shares[worst]:.1%}, {worst}",
    )
    ious = np.array([one.iou for one in scores.masks])
    # If the mask is the whole image, the IoU is the truth's share of the image.
    whole = float(np.mean([one.truth.mean() for one in scores.masks]))
    yield _share(
        "pseudo-mask IoU",
        float(ious.mean()),
        f"{whole:.1%}, whole images as masks",
        size.goals.mask_iou,
        scores.commands.again,
        f"mean over {len(ious):,} masks; median {np.median(ious):.1%}; {(ious < 0.5).mean():.1%}"
        " below 50 %",
    )


def _of_the_models(scores: DemoScores, size: DemoSize) -> Iterator[Figure]:
    goals, command = size.goals, scores.commands.evaluate
    zutis, maskclip = _both(scores.evaluated)
    pair = _mean_iou(zutis), _mean_iou(maskclip)
    yield _model("semantic mean IoU, ZUTIS", pair, goals.mean_iou, command, "background included")
    yield _ratio("semantic mean IoU, times MaskCLIP's", pair, goals.mean_iou_ratio, command)
    pair = _ap50(zutis), _ap50(maskclip)
    yield _model("instance AP50, ZUTIS", pair, goals.ap50, command, "of masks, by category")
    yield _ratio("instance AP50, times MaskCLIP's", pair, goals.ap50_ratio, command)
    zutis, maskclip = _both(scores.partly)
    command, pair = scores.commands.evaluate_partly, (_unseen(zutis), _unseen(maskclip))
    kinds = ", ".join(left_out(scores.partly))
    yield _model("mean IoU of kinds left out of training, ZUTIS", pair, None, command, kinds)
    yield _ratio("mean IoU of kinds left out, times MaskCLIP's", pair, goals.unseen_ratio, command)


def _of_time(scores: DemoScores, size: DemoSize) -> Iterator[Figure]:
    goal = f"at most {size.goals.minutes:g} min"
    if scores.seconds is None:
        yield Figure(
            name="wall time", value="—", baseline="", goal=goal, reached=None,
            command=scores.commands.anew, note="not measured: an earlier run was interrupted",
        )  # fmt: skip
        return
    minutes = scores.seconds / 60
    yield Figure(
        name="wall time",
        value=f"{minutes:.1f} min",
        baseline="",
        goal=goal,
        reached=minutes <= size.goals.minutes,
        command=scores.commands.anew,
        note="of everything in one run but the ceiling, the drawing of the images included",
    )


def left_out(partly: Evaluated) -> tuple[str, ...]:
    """The kinds left out of the second training."""
    rows = partly.model.read_json(METRICS)["classes"]
    return tuple(row["name"] for row in rows if row["group"] == "unseen")


def _both(evaluated: Evaluated) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics of ZUTIS and of MaskCLIP."""
    assert evaluated.baseline is not None, "the demonstration asks for it"
    return evaluated.model.read_json(METRICS), evaluated.baseline.read_json(METRICS)


def _mean_iou(metrics: dict[str, Any]) -> float:
    return float(metrics["semantic"]["mean_iou_with_background"])


def _ap50(metrics: dict[str, Any]) -> float:
    return float(metrics["instance"]["by_category"]["ap50"])


def _unseen(metrics: dict[str, Any]) -> float:
    return float(metrics["semantic"]["unseen"]["mean_iou"])


def _model(
    name: str, pair: tuple[float, float], goal: float | None, command: str, note: str
) -> Figure:
    """A score of ZUTIS beside MaskCLIP's."""
    ours, theirs = pair
    return _share(name, ours, f"{theirs:.1%}, {_BASELINE}", goal, command, note)


def _share(
    name: str, value: float, baseline: str, goal: float | None, command: str, note: str
) -> Figure:
    return Figure(
        name=name,
        value=f"{value:.1%}",
        baseline=baseline,
        goal="" if goal is None else f"at least {goal:.0%}",
        reached=None if goal is None else value >= goal,
        command=command,
        note=note,
    )


def _ratio(name: str, pair: tuple[float, float], goal: float, command: str) -> Figure:
    ours, theirs = pair
    ratio = times(ours, theirs)
    return Figure(
        name=name,
        value=f"{ratio:.2f} x",
        baseline=f"{theirs:.1%}, {_BASELINE}",
        goal=f"at least {goal:g} x",
        reached=ratio >= goal,
        command=command,
        note=f"{ours:.1%} against {theirs:.1%} of the same CLIP without training",
    )
