"""The systems of the demonstration as one table, as papers have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.demo.page import ScoreTable
from flows.pipelines.training import Evaluated
from tasks.evaluation.evaluate import METRICS

_COLUMNS = ("", "trained on", "mean IoU", "AP", "AP50", "AP75")
_NOTE = (
    "On scenes that no network has seen, in per cent; mean IoU includes the background, AP is of"
    " masks by category. All three have the same CLIP; the ceiling is ZUTIS trained on the same"
    " images with their true masks, which only a made world has."
)


def systems_table(evaluated: Evaluated, ceiling: Evaluated | None, command: str) -> ScoreTable:
    """A row for each system.

    Args:
        evaluated: ZUTIS, trained on pseudo-labels, and MaskCLIP.
        ceiling: ZUTIS trained on true labels; None where this was not asked for.
        command: the command line that gives the table again, with the ceiling.
    """
    assert evaluated.baseline is not None, "the demonstration asks for it"
    rows = [
        ("MaskCLIP", "nothing", *_cells(evaluated.baseline.read_json(METRICS))),
        ("ZUTIS", "pseudo-labels", *_cells(evaluated.model.read_json(METRICS))),
    ]
    unmeasured = ("-",) * (len(_COLUMNS) - 2)
    scores = _cells(ceiling.model.read_json(METRICS)) if ceiling else unmeasured
    rows.append(("ceiling: ZUTIS", "true labels", *scores))
    return ScoreTable(
        title="Systems", note=_NOTE, columns=_COLUMNS, rows=tuple(rows), command=command
    )


def _cells(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    instances = metrics["instance"]["by_category"]
    scores = (
        metrics["semantic"]["mean_iou_with_background"],
        *(instances[name] for name in ("ap", "ap50", "ap75")),
    )
    return tuple("-" if score is None else f"{100 * score:.1f}" for score in scores)
