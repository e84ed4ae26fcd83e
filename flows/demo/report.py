"""The content of the demonstration's page, from published artifacts."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from flows.builds.found import build_of
from flows.commands.build import Outcome
from flows.demo.command_lines import DemoCommands, demo_line, predict_line
from flows.demo.figures import DemoScores, left_out
from flows.demo.page import Figure, Page, SceneSheet, ScoreTable, render_page
from flows.demo.scenes import side_by_side
from flows.demo.settings import CLIP, LONGER_VOCABULARY_FILE, SELFMASK, DemoSize
from flows.demo.thumbnails import true_labels, with_truth, worst
from flows.reports.gathered import gather
from flows.reports.results import curves
from flows.summaries.training import training_facts
from storage.artifacts.store import Artifact
from tasks.evaluation.score_table import score_rows

# The small networks' scores reach 0.4 to 0.5, below the default threshold of `predict`.
_MIN_SCORE = 0.2

PAGE = "index.html"

_IN_PER_CENT = "In per cent; the ratio is ZUTIS's score over MaskCLIP's."

_SCENES = (
    "Every row is one scene: the image, the things that are there, and those that MaskCLIP and"
    " ZUTIS find, each outlined in its kind's colour, with its name and the model's score. Of each"
    " model as many things are shown as there are, those of the highest scores. The scenes lie"
    " evenly between the one whose things ZUTIS outlines best and the one whose things it outlines"
    " worst. A thing counts as found with the right name and an IoU of 0.5 or more."
)

_LEAD = (
    "No mask and no label was drawn by a person. Images without annotation were indexed with a"
    " small CLIP; the images of each category were retrieved; an unsupervised saliency model"
    " made masks; ZUTIS was trained on them, and compared on scenes that no model had seen with"
    " MaskCLIP, which is the same CLIP without that training. The world is made, so the truth is"
    " known everywhere: it is used for the figures on this page and for nothing else."
)


def write_report(
    folder: Path,
    size: DemoSize,
    scores: DemoScores,
    systems: ScoreTable,
    measured: Sequence[Figure],
    outcome: Outcome,
    partly_trained: Artifact,
) -> Path:
    """Write the page into the demonstration's folder; returns its path."""
    assert outcome.training is not None
    page = Page(
        title="zutis demo: segmentation without annotation, in miniature",
        lead=_LEAD,
        facts=tuple(_facts(size, outcome, outcome.training)),
        systems=systems,
        figures=tuple(measured),
        tables=tuple(_tables(scores)),
        build=with_truth(
            gather(build_of(outcome.build.dataset), true_labels(scores.masks)),
            scores.retrieved,
            scores.masks,
        ),
        worst=worst(scores.masks),
        curves=curves([("all kinds", outcome.training), ("four left out", partly_trained)]),
        scenes=SceneSheet(
            note=_SCENES,
            command=scores.commands.evaluate,
            scenes=side_by_side(scores.evaluated, size.evaluation_settings(folder)),
        ),
        again=scores.commands.again,
        commands=further_commands(size, scores.commands),
    )
    path = folder / PAGE
    path.write_text(render_page(page), encoding="utf-8")
    return path


def _facts(size: DemoSize, outcome: Outcome, training: Artifact) -> Iterator[tuple[str, str]]:
    index = outcome.build.index.counts
    yield "corpus", f"{size.images:,} files; {index['images']:,} different images in the index"
    yield (
        "pseudo-labels",
        (
            f"{outcome.build.shard_plan.counts['samples']:,} samples of"
            f" {size.per_category} images retrieved a category"
        ),
    )
    yield (
        "models",
        f"CLIP {CLIP}, SelfMask {SELFMASK}: see storage/weights/shipped_weights",
    )
    for label, value in training_facts(training).items():
        if label in ("network", "trained", "mean IoU"):
            yield label, value
    yield "scenes", f"{size.scenes:,} images with two to six things each"
    yield "machine", f"{platform.machine()}, {os.cpu_count()} cores"


def _tables(scores: DemoScores) -> Iterator[ScoreTable]:
    pairs = (
        ("Trained on all kinds", scores.evaluated, scores.commands.evaluate, _IN_PER_CENT),
        (
            f"Trained without {len(left_out(scores.partly))} kinds",
            scores.partly,
            scores.commands.evaluate_partly,
            f"{_IN_PER_CENT} Training was not shown {', '.join(left_out(scores.partly))}: what it"
            " says of them it has from CLIP's texts.",
        ),
    )
    for title, evaluated, command, note in pairs:
        columns, rows = score_rows(evaluated.metrics())
        yield ScoreTable(title=title, note=note, columns=columns, rows=rows, command=command)


def further_commands(size: DemoSize, commands: DemoCommands) -> tuple[tuple[str, str], ...]:
    """Further commands, each with a description of its result."""
    return (
        ("The pseudo-labels", commands.build),
        ("The training on all kinds: its loss and mean IoU at the end", commands.train),
        ("The training without some kinds", commands.train_partly),
        ("What one name more costs", demo_line(size, vocabulary=LONGER_VOCABULARY_FILE)),
        (
            "Other categories than those of the training, on any images",
            predict_line("red heart,house", _MIN_SCORE),
        ),
        (
            "Your own images and categories, with published weights",
            "zutis build --corpus my-images --vocabulary my-categories.txt --then train",
        ),
    )
