"""`zutis evaluate`: the output for published scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.commands import evaluate
from flows.commands.evaluate import print_scores
from flows.pipelines.training import Evaluated
from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from tasks.evaluation.evaluate import METRICS


def evaluation(store: ArtifactStore, name: str, notes: list[str]) -> Artifact:
    recipe = Recipe(stage="evaluate", version=1, config={"name": name, "notes": notes})
    with store.attempt(ArtifactRef("evaluate", recipe.key())) as attempt:
        attempt.create_json(METRICS, {"evaluation_set": {"notes": notes} if notes else {}})
        return store.publish(attempt, recipe)


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(evaluate, "score_table", lambda metrics: "scores")
    store = ArtifactStore(str(tmp_path))

    def call(model: list[str], baseline: list[str] | None) -> str:
        console = Console(record=True, width=200)
        other = None if baseline is None else evaluation(store, "baseline", baseline)
        print_scores(Evaluated(evaluation(store, "model", model), other), console)
        return console.export_text()

    return call


def test_what_is_noted_of_the_model_alone_is_printed_beside_a_baseline(printed):
    shared = "2 of the 3 images are in the training's data set."
    text = printed(["The maps are binary masks.", shared], ["The maps are binary masks."])
    assert f"Note: {shared}" in text
    assert text.count("binary masks") == 1, "what both say is said once"


def test_without_notes_or_baseline_nothing_is_added(printed):
    assert "Note" not in printed([], None)
    assert "Note: only here" in printed(["only here"], None)
