"""The demonstration's page: what goes on it, from what the stages have published."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from flows.build_command import Outcome
from flows.demo_figures import DemoScores, left_out
from flows.demo_page import Curve, Figure, Page, ScoreTable, Series, Sheet, render_page
from flows.demo_pictures import galleries, worst
from flows.demo_settings import CLIP, SELFMASK, DemoSize
from flows.training_pipeline import Evaluated
from flows.training_summary import training_facts
from storage.artifacts import Artifact
from tasks.evaluate import SHEET
from tasks.mask_sheet import as_jpeg
from tasks.score_table import score_rows
from tasks.train import TRAINING_TABLE

# The small networks' scores reach 0.4 to 0.5, below what `predict` asks of published ones.
_MIN_SCORE = 0.2

_LEAD = (
    "Nobody drew a mask or a label for this. Pictures without annotation were indexed with a small"
    " CLIP; for each name the pictures that show it were retrieved; an unsupervised saliency model"
    " made masks; ZUTIS was trained on them, and compared on scenes that no model had seen with"
    " MaskCLIP, which is the same CLIP without that training. The world is made, so the truth is"
    " known everywhere: it is used for the figures on this page and for nothing else."
)


def write_report(
    path: Path,
    size: DemoSize,
    scores: DemoScores,
    measured: Sequence[Figure],
    outcome: Outcome,
    partly_trained: Artifact,
) -> Path:
    """Write the page; its path."""
    assert outcome.training is not None
    page = Page(
        title="zutis demo: segmentation without annotation, in miniature",
        lead=_LEAD,
        facts=tuple(_facts(size, outcome, outcome.training)),
        figures=tuple(measured),
        tables=tuple(_tables(scores)),
        galleries=galleries(scores.retrieved, scores.masks),
        worst=worst(scores.masks),
        curves=tuple(_curves([("all kinds", outcome.training), ("four left out", partly_trained)])),
        sheets=tuple(_sheets(scores.evaluated)),
        commands=_commands(path.parent, size),
    )
    path.write_text(render_page(page), encoding="utf-8")
    return path


def _facts(size: DemoSize, outcome: Outcome, training: Artifact) -> Iterator[tuple[str, str]]:
    index = outcome.build.index.counts
    yield "corpus", f"{size.pictures:,} files; {index['images']:,} different pictures in the index"
    yield (
        "pseudo-labels",
        (
            f"{outcome.build.shard_plan.counts['samples']:,} samples of"
            f" {size.per_category} pictures retrieved a name"
        ),
    )
    yield "models", f"CLIP {CLIP}, SelfMask {SELFMASK}: see storage/shipped_weights/README.md"
    for label, value in training_facts(training).items():
        if label in ("network", "trained", "mean IoU"):
            yield label, value
    yield "scenes", f"{size.scenes:,} pictures with two to six things each"
    yield "machine", f"{platform.machine()}, {os.cpu_count()} cores"


def _tables(scores: DemoScores) -> Iterator[ScoreTable]:
    pairs = (
        ("Trained on all kinds", scores.evaluated, ""),
        (
            f"Trained without {len(left_out(scores.partly))} kinds",
            scores.partly,
            f"Training was not shown {', '.join(left_out(scores.partly))}: what it says of them it"
            " has from CLIP's texts.",
        ),
    )
    for title, evaluated, note in pairs:
        columns, rows = score_rows(evaluated.metrics())
        yield ScoreTable(title=title, note=note, columns=columns, rows=rows)


def _curves(trainings: Sequence[tuple[str, Artifact]]) -> Iterator[Curve]:
    for title, column in (("Loss", "loss"), ("Mean IoU on training crops", "mean_iou")):
        series = tuple(Series(name=name, points=_points(one, column)) for name, one in trainings)
        yield Curve(title=title, x_label="iteration", y_label=title, series=series)


def _points(training: Artifact, column: str) -> tuple[tuple[float, float], ...]:
    with training.open(TRAINING_TABLE) as file:
        rows = list(csv.DictReader(file.read().decode().splitlines()))
    return tuple((float(row["step"]), float(row[column])) for row in rows if row[column])


def _sheets(evaluated: Evaluated) -> Iterator[Sheet]:
    assert evaluated.baseline is not None
    for title, one in (("ZUTIS", evaluated.model), ("MaskCLIP", evaluated.baseline)):
        with one.open(SHEET) as file:
            image = as_jpeg(Image.open(file))
        yield Sheet(title=title, note="The best, the median and the worst scenes.", image=image)


def _commands(folder: Path, size: DemoSize) -> tuple[tuple[str, str], ...]:
    quick = " --quick" if size.name == "quick" else ""
    return (
        ("What one name more costs", f"zutis demo{quick} --vocabulary {folder / 'one-more.txt'}"),
        (
            "Other names than the training knew, on any pictures",
            f"zutis predict {folder / 'scenes' / 'images'} --checkpoint latest --store"
            f' {folder / "store"} --categories "red heart,house" --min-score {_MIN_SCORE}'
            " --out predictions",
        ),
        (
            "Your own pictures and names, with published weights",
            "zutis build --corpus my-pictures --vocabulary my-names.txt --then train",
        ),
    )
