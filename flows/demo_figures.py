"""The demonstration's figures beside their goals, from what the stages have published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.demo_page import Figure
from flows.demo_scores import Retrieved, ScoredMask, precisions
from flows.demo_settings import DemoSize
from flows.training_pipeline import Evaluated
from tasks.evaluate import METRICS


@dataclass(frozen=True, kw_only=True)
class DemoScores:
    """What was measured.

    Attributes:
        retrieved: every retrieved picture.
        masks: every pseudo-mask of a picture with objects.
        evaluated: the network that was trained on all kinds, and MaskCLIP.
        partly: the one that was trained without some, and MaskCLIP.
        seconds: wall time of the run that made everything; None if none did it in one go.
    """

    retrieved: Sequence[Retrieved]
    masks: Sequence[ScoredMask]
    evaluated: Evaluated
    partly: Evaluated
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
        size.goals.precision,
        f"mean over {len(shares)} names; lowest {shares[worst]:.1%}, {worst}",
    )
    ious = np.array([one.iou for one in scores.masks])
    yield _share(
        "pseudo-mask IoU",
        float(ious.mean()),
        size.goals.mask_iou,
        f"mean over {len(ious):,} masks; median {np.median(ious):.1%}; {(ious < 0.5).mean():.1%}"
        " below 50 %",
    )


def _of_the_models(scores: DemoScores, size: DemoSize) -> Iterator[Figure]:
    zutis, maskclip = _both(scores.evaluated)
    ours, theirs = (_mean_iou(metrics) for metrics in (zutis, maskclip))
    yield _share("semantic mean IoU, ZUTIS", ours, size.goals.mean_iou, "background included")
    yield _ratio("semantic mean IoU, times MaskCLIP's", ours, theirs, size.goals.mean_iou_ratio)
    ours, theirs = (_ap50(metrics) for metrics in (zutis, maskclip))
    yield _share("instance AP50, ZUTIS", ours, size.goals.ap50, "of masks, by category")
    yield _ratio("instance AP50, times MaskCLIP's", ours, theirs, size.goals.ap50_ratio)
    ours, theirs = (_unseen(metrics) for metrics in _both(scores.partly))
    yield Figure(
        name="mean IoU of kinds left out of training, ZUTIS",
        value=f"{ours:.1%}",
        goal="",
        reached=None,
        note=", ".join(left_out(scores.partly)),
    )
    yield _ratio(
        "mean IoU of kinds left out, times MaskCLIP's", ours, theirs, size.goals.unseen_ratio
    )


def _of_time(scores: DemoScores, size: DemoSize) -> Iterator[Figure]:
    goal = f"at most {size.goals.minutes:g} min"
    if scores.seconds is None:
        yield Figure(
            name="wall time", value="—", goal=goal, reached=None,
            note="not measured: an earlier run was interrupted",
        )  # fmt: skip
        return
    minutes = scores.seconds / 60
    yield Figure(
        name="wall time",
        value=f"{minutes:.1f} min",
        goal=goal,
        reached=minutes <= size.goals.minutes,
        note="of everything in one run, the drawing of the pictures included",
    )


def left_out(partly: Evaluated) -> tuple[str, ...]:
    """The kinds that the second training was not shown."""
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


def _share(name: str, value: float, goal: float | None, note: str) -> Figure:
    wanted = "" if goal is None else f"at least {goal:.0%}"
    reached = None if goal is None else value >= goal
    return Figure(name=name, value=f"{value:.1%}", goal=wanted, reached=reached, note=note)


def _ratio(name: str, ours: float, theirs: float, goal: float) -> Figure:
    # Twice nothing is not more than nothing.
    ratio = ours / theirs if theirs else float("inf") if ours else 0.0
    return Figure(
        name=name,
        value=f"{ratio:.2f} x",
        goal=f"at least {goal:g} x",
        reached=ratio >= goal,
        note=f"MaskCLIP, the same CLIP without training: {theirs:.1%}",
    )
