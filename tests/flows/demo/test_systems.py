"""The table of systems: a row each, and a gap where the ceiling was not asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from flows.demo.systems import systems_table
from flows.pipelines.training import Evaluated
from storage.artifacts.store import Artifact


@dataclass
class Published:
    metrics: dict[str, Any]

    def read_json(self, name: str) -> dict[str, Any]:
        assert name == "metrics.json"
        return self.metrics


def evaluation(mean_iou: float, ap50: float) -> Artifact:
    metrics = {
        "semantic": {"mean_iou_with_background": mean_iou},
        "instance": {"by_category": {"ap": ap50 / 2, "ap50": ap50, "ap75": None}},
    }
    return cast(Artifact, Published(metrics))


def test_each_system_has_a_row_with_its_scores():
    evaluated = Evaluated(evaluation(0.5, 0.25), evaluation(0.3, 0.2))
    ceiling = Evaluated(evaluation(0.7, 0.5), None)
    table = systems_table(evaluated, ceiling, "zutis demo --ceiling")
    assert table.columns[2:] == ("mean IoU", "AP", "AP50", "AP75")
    assert table.rows == (
        ("MaskCLIP", "nothing", "30.0", "10.0", "20.0", "-"),
        ("ZUTIS", "pseudo-labels", "50.0", "12.5", "25.0", "-"),
        ("ceiling: ZUTIS", "true labels", "70.0", "25.0", "50.0", "-"),
    )


def test_a_ceiling_that_was_not_asked_for_is_a_gap():
    evaluated = Evaluated(evaluation(0.5, 0.25), evaluation(0.3, 0.2))
    table = systems_table(evaluated, None, "zutis demo --ceiling")
    assert table.rows[-1] == ("ceiling: ZUTIS", "true labels", "-", "-", "-", "-")
    assert table.command == "zutis demo --ceiling"
