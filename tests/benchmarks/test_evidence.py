"""Estimates against the truth: pure functions on planted scores, and a run at a tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import evidence
from benchmarks.evidence import Scores, compared, figures_of


def test_whole_worlds_and_planted_counts_are_compared_with_the_truth() -> None:
    rng = np.random.default_rng(0)
    shows = np.arange(600)[:, None] < [40, 0]
    cosines = np.where(shows, rng.normal(0.6, 0.02, (600, 2)), rng.normal(0.1, 0.05, (600, 2)))
    found = compared(Scores(("star", "cup"), cosines, shows), planted=(20, 80), seed=0)
    assert found["star"].keys() == {"all", "20"}
    assert found["cup"] == {"all": [0, 0]}
    for name, count in (("all", 40), ("20", 20)):
        truth, estimate = found["star"][name]
        assert truth == count
        assert estimate == pytest.approx(count, rel=0.2)


def test_figures_are_shares_and_medians() -> None:
    found = {"star": {"all": [100, 90], "20": [20, 26]}, "cup": {"all": [50, 70]}}
    values = {figure.name: figure.value for figure in figures_of(found, "easy")}
    assert values["easy world, all images: kinds within 20 %"] == 0.5
    assert values["easy world, all images: median of estimate / truth"] == pytest.approx(1.15)
    assert values["easy world, 20 planted: kinds within 20 %"] == 0.0


@pytest.mark.slow
def test_a_tiny_world_is_estimated(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    evidence.measure(11, images=48, worlds=("hard",), planted=(3,)).write(out)
    result = json.loads(out.read_text())
    assert "hard world, 3 planted: median of estimate / truth" in result["figures"]
    assert len(result["samples"]["hard"]) == 16
