"""The benchmark of the allocator's settings: its medians, and a run at a tiny size."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import training_allocator
from benchmarks.training_allocator import Turn, figures


def turn(user: float, system: float, peak: float = 1000.0) -> Turn:
    return Turn(
        wall=user + system + 1, user=user, system=system, faults=7, peak=peak, weights="same"
    )


def test_ratios_are_those_of_the_medians() -> None:
    turns = {
        "without": [turn(8.0, 2.0), turn(99.0, 99.0), turn(7.0, 3.0)],
        "with": [turn(7.0, 1.0), turn(6.0, 1.0, peak=1050.0), turn(6.5, 1.5, peak=1050.0)],
    }
    found = {figure.name: figure for figure in figures(turns)}
    assert found["processor: with / without"].value == pytest.approx(0.8)
    assert found["processor, kernel, with"].value == 1.0
    assert found["peak memory: with / without"].value == pytest.approx(1.05)
    assert found["peak memory: with / without"].met


def test_weights_that_differ_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_fresh_process(function: object, kind: str, size: object) -> Turn:
        made = turn(1.0, 1.0)
        return made if kind == "with" else Turn(**(vars(made) | {"weights": "other"}))

    monkeypatch.setattr(training_allocator, "in_fresh_process", in_fresh_process)
    size = training_allocator.Size(
        steps=1, batch=1, side=32, queries=2, objects=1, precision="float32"
    )
    with pytest.raises(SystemExit, match="different weights"):
        training_allocator.measure_in_turns(size, 1)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_a_few_steps_give_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, since each fresh one would import torch anew."""
    out = tmp_path / "result.json"
    sizes = "--steps 1 --batch 1 --side 32 --queries 2 --objects 1 --rounds 1"
    monkeypatch.setattr(sys, "argv", ["training_allocator", *sizes.split(), "--out", str(out)])
    monkeypatch.setattr(training_allocator, "use_cores", lambda count: None)
    monkeypatch.setattr(training_allocator, "in_fresh_process", lambda call, *given: call(*given))
    training_allocator.main()
    result = json.loads(out.read_text())
    assert result["sizes"]["side"] == 32
    assert len(result["samples"]["with"]) == len(result["samples"]["without"]) == 1
    [one], [other] = result["samples"]["with"], result["samples"]["without"]
    assert one["weights"] == other["weights"]
