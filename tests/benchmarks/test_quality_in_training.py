"""What quality gains in training: the arms differ as they say, and a tiny run has all figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import quality_in_training
from benchmarks.quality_in_training import ALL, BEST, TWO_ROUNDS, WEIGHTED, Sizes, arms, figures_of


def test_all_ways_train_for_as_many_iterations():
    every = {one.name: one for one in arms(440)}
    assert set(every) == {ALL, WEIGHTED, BEST, TWO_ROUNDS}
    totals = {
        name: one.training["iterations"] * one.training.get("rounds", 1)
        for name, one in every.items()
    }
    assert set(totals.values()) == {440}


def test_each_way_differs_from_the_plain_one_in_one_setting():
    plain, *others = arms(10)
    for one in others:
        changed = {
            name
            for mine, its in ((one.build, plain.build), (one.training, plain.training))
            for name in mine | its
            if mine.get(name) != its.get(name)
        } - {"iterations"}
        assert len(changed) == 1, one.name


def test_ratios_are_of_means_and_only_two_rounds_have_a_goal():
    def rows(*scores: float) -> list[dict[str, float]]:
        return [{"mean IoU": 0.5, "AP50": one} for one in scores]

    found = {ALL: rows(0.1, 0.3), WEIGHTED: rows(0.2, 0.3), TWO_ROUNDS: rows(0.1, 0.2)}
    figures = {one.name: one for one in figures_of(found, "hard")}
    assert figures["hard, weighted: AP50 over all labels"].value == pytest.approx(1.25)
    assert figures["hard, weighted: AP50 over all labels"].met is None
    assert figures["hard, two rounds: AP50 over all labels"].value == pytest.approx(0.75)
    assert figures["hard, two rounds: AP50 over all labels"].met is False


@pytest.mark.slow
def test_a_tiny_world_is_trained_in_all_ways(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    sizes = Sizes(images=48, per_category=2, scenes=4, iterations=2)
    quality_in_training.measure(["hard"], 11, sizes, [0]).write(out)
    result = json.loads(out.read_text())
    assert set(result["samples"]["hard"]["scores"]) == {ALL, WEIGHTED, BEST, TWO_ROUNDS}
    assert "hard, all labels: AP50" in result["figures"]
