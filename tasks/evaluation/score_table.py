"""Scores of one model, or of several side by side, as plain text for the terminal and the UI."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Metrics = Mapping[str, Any]
_Rows = dict[str, float | None]

_NAME_WIDTH, _WIDTH = 34, 10
_CLASS_WIDTH = 30
_UNDEFINED = "-"
_A_PAIR = 2  # a baseline and the model beside it
_METHODS = {"zutis": "ZUTIS", "maskclip": "MaskCLIP"}


def score_table(several: Sequence[Metrics], *, most_classes: int = 1000) -> str:
    """The scores, in per cent.

    With two columns, a baseline and a model, a third one has the ratio of their scores.

    Args:
        several: the `metrics.json` of evaluations on one data set, one per column, the baseline
            first.
        most_classes: rows of the table by category at most; the last line says how many more
            there are.
    """
    names = [_METHODS[metrics["model"]["method"]] for metrics in several]
    lines = [*_head(several, names), ""]
    for kind, rows in (("Semantic", _semantic), ("Instances", _instances)):
        lines += _score_lines(kind, names, [rows(metrics) for metrics in several])
    lines += _class_lines(several, names, most_classes)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def score_notes(metrics: Sequence[Metrics]) -> list[str]:
    """The notes of all evaluations, each once: those on the data set are in all of them, those on
    one model, such as images that it was trained on, in one."""
    noted = (one["evaluation_set"].get("notes", ()) for one in metrics)
    return list(dict.fromkeys(note for notes in noted for note in notes))


def score_rows(
    several: Sequence[Metrics],
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The scores without those of single categories, for tables of another format.

    Returns:
        Column titles, and a row for each score: its name, per cent in each column, and the ratio
        where there are two columns.
    """
    titles = ("", *_titles([_METHODS[metrics["model"]["method"]] for metrics in several]))
    kinds = [[kind(metrics) for metrics in several] for kind in (_semantic, _instances)]
    return titles, tuple(row for columns in kinds for row in _cells(columns))


def times(ours: float, theirs: float) -> float:
    """The ratio of a score to the baseline's; infinity where only the baseline's is 0."""
    # Of two zeros the ratio is 0.
    return ours / theirs if theirs else math.inf if ours else 0.0


def _titles(names: Sequence[str]) -> list[str]:
    return [*names, *(["ratio"] if len(names) == _A_PAIR else [])]


def _cells(columns: Sequence[_Rows]) -> list[tuple[str, ...]]:
    """A row for each score of any column: its name, per cent in each column, and the ratio."""
    labels = dict.fromkeys(label for column in columns for label in column)
    return [
        (label, *_cells_of_score([column.get(label) for column in columns])) for label in labels
    ]


def _cells_of_score(values: Sequence[float | None]) -> list[str]:
    cells = [_percent(value) for value in values]
    if len(values) == _A_PAIR:
        theirs, ours = values
        cells.append(_UNDEFINED if theirs is None or ours is None else f"{times(ours, theirs):.2f}")
    return cells


def _head(several: Sequence[Metrics], names: Sequence[str]) -> Iterator[str]:
    for metrics, name in zip(several, names, strict=True):
        used, model = metrics["evaluation_set"], metrics["model"]
        images = f"{used['images']:,} images"
        if used["images"] != used["images_of_the_set"]:
            images = f"the first {used['images']:,} of {used['images_of_the_set']:,} images"
        column = f"{name}: " if len(several) > 1 else ""
        yield f"{column}{model['label']} on {used['name']}, {images}"
    if any(metrics["model"]["untrained"] for metrics in several):
        yield "The weights are untrained: the scores mean nothing."


def _score_lines(kind: str, names: Sequence[str], columns: Sequence[_Rows]) -> Iterator[str]:
    """A line for each score of any model, and an empty one."""
    rows = _cells(columns)
    if not rows:
        return
    titles = "".join(f"{name:>{_WIDTH}}" for name in _titles(names)) if len(names) > 1 else ""
    yield f"{kind:<{_NAME_WIDTH + 2}}{titles}"
    for label, *cells in rows:
        values = "".join(f"{cell:>{_WIDTH}}" for cell in cells)
        yield f"  {label:<{_NAME_WIDTH}}{values}"
    yield ""


def _semantic(metrics: Metrics) -> _Rows:
    scores = metrics["semantic"]
    if scores is None:
        return {}
    rows: _Rows = {
        "mean IoU, background included": scores["mean_iou_with_background"],
        "mean IoU, background left out": scores["mean_iou_without_background"],
        "pixel accuracy": scores["pixel_accuracy"],
        "mean accuracy": scores["mean_accuracy"],
        "frequency-weighted IoU": scores["frequency_weighted_iou"],
    }
    for group in ("seen", "unseen"):
        if group in scores:
            number = scores[group]["categories"]
            rows[f"mean IoU, {number} {group} categories"] = scores[group]["mean_iou"]
    if "harmonic_mean_iou" in scores:
        rows["harmonic mean of both"] = scores["harmonic_mean_iou"]
    own = {
        "mean_iou": "mean IoU",
        "image_accuracy": "image accuracy",
        "f_measure": "F-measure",
        **{f"mean_iou_{size}": f"mean IoU, size {size.upper()}" for size in ("s", "ms", "ml", "l")},
    }
    special = scores.get("imagenet_s", {})
    return rows | {f"ImageNet-S {own[name]}": value for name, value in special.items()}


def _instances(metrics: Metrics) -> _Rows:
    scores = metrics["instance"]
    if scores is None:
        return {}
    by_category, agnostic = scores["by_category"], scores["class_agnostic"]
    rows: _Rows = {
        name: by_category[key]
        for name, key in (
            ("AP", "ap"), ("AP50", "ap50"), ("AP75", "ap75"), ("AP small", "ap_small"),
            ("AP medium", "ap_medium"), ("AP large", "ap_large"), ("AR@1", "ar_1"),
            ("AR@10", "ar_10"), ("AR@100", "ar_100"), ("AR small", "ar_small"),
            ("AR medium", "ar_medium"), ("AR large", "ar_large"),
        )
    }  # fmt: skip
    for group in ("seen", "unseen"):
        if group in scores:
            rows[f"AP, {scores[group]['categories']} {group} categories"] = scores[group]["ap"]
    return rows | {
        "AP, class-agnostic": agnostic["ap"],
        "AP50, class-agnostic": agnostic["ap50"],
        "AR@100, class-agnostic": agnostic["ar_100"],
    }


def _class_lines(several: Sequence[Metrics], names: Sequence[str], most: int) -> Iterator[str]:
    classes = [metrics["classes"] for metrics in several]
    columns = ["IoU", "acc.", "pixels", "AP", "objects"] if len(several) == 1 else [
        *(f"IoU {name}" for name in names), *(f"AP {name}" for name in names), "objects"
    ]  # fmt: skip
    widths = [max(8, len(column) + 1) for column in columns]
    name_width = max(12, min(_CLASS_WIDTH, 80 - sum(widths)))
    titles = "".join(f"{title:>{width}}" for title, width in zip(columns, widths, strict=True))
    yield f"{'Category':<{name_width}}{titles}"
    total = sum(row["pixels"] for row in classes[0])
    for rows in list(zip(*classes, strict=True))[:most]:
        cells = _cells_of_one(rows[0], total) if len(rows) == 1 else _cells_of_several(rows)
        numbers = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        yield f"{_shortened(rows[0]['name'], name_width):<{name_width}}{numbers}"
    if len(classes[0]) > most:
        yield f"and {len(classes[0]) - most:,} more"


def _cells_of_one(row: Mapping[str, Any], total: int) -> list[str]:
    share = row["pixels"] / total if total else None
    shown = (row["iou"], row["accuracy"], share, row["ap"])
    return [*map(_percent, shown), f"{row['objects']:,}"]


def _cells_of_several(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    shown = [*(row["iou"] for row in rows), *(row["ap"] for row in rows)]
    return [*map(_percent, shown), f"{rows[0]['objects']:,}"]


def _shortened(name: str, width: int) -> str:
    return name if len(name) < width else f"{name[: width - 4]}..."


def _percent(value: float | None) -> str:
    return _UNDEFINED if value is None else f"{100 * value:.1f}"
