"""Training curves, and scores of the networks that were trained on a build."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from typing import Final

from flows.builds.found import FoundBuild
from flows.reports.charts import COLOURS, Curve, Series
from flows.reports.parts import ScoreTable
from storage.artifacts.store import Artifact
from tasks.evaluation.evaluate import METRICS
from tasks.evaluation.score_table import score_rows
from tasks.training.train import TRAINING_TABLE

_COLUMNS: Final = {"loss": "Loss", "mean_iou": "Mean IoU on training crops"}
_KEY: Final = 8
_TABLES: Final = 12


def curves(trainings: Sequence[tuple[str, Artifact]]) -> tuple[Curve, ...]:
    """A chart of the loss and one of the mean IoU, with a line for each named training."""
    shown = trainings[:COLOURS]
    found = []
    for column, title in _COLUMNS.items():
        lines = [(name, _points(training, column)) for name, training in shown]
        series = tuple(Series(name=name, points=points) for name, points in lines if points)
        if series:
            found.append(Curve(title=title, x_label="iteration", y_label=title, series=series))
    return tuple(found)


def named_trainings(build: FoundBuild) -> list[tuple[str, Artifact]]:
    """The trainings on a build's data set, named by the beginnings of their keys."""
    return [(training.key[:_KEY], training) for training in build.trainings]


def scores(build: FoundBuild) -> tuple[ScoreTable, ...]:
    """A table for each evaluation of such a training."""
    tables = []
    for evaluation in build.evaluations[:_TABLES]:
        metrics = evaluation.read_json(METRICS)
        columns, rows = score_rows([metrics])
        trained = str(evaluation.manifest["inputs"]["training"])[:_KEY]
        tables.append(
            ScoreTable(
                title=str(metrics["evaluation_set"]["name"]),
                note=f"Training {trained}, {metrics['evaluation_set']['images']:,} images, in per"
                " cent.",
                columns=columns,
                rows=rows,
            )
        )
    return tuple(tables)


def _points(training: Artifact, column: str) -> tuple[tuple[float, float], ...]:
    with training.open(TRAINING_TABLE) as file:
        rows = list(csv.DictReader(file.read().decode().splitlines()))
    points = ((float(row["step"]), float(row[column])) for row in rows if row.get(column))
    return tuple(point for point in points if all(map(math.isfinite, point)))
