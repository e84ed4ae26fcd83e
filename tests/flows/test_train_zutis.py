"""Training and evaluation after a build, on a real Prefect API: which flows are triggered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows import build_pseudolabels, evaluate_zutis, train_zutis
from flows.cli import exit_code_of, run_command_line
from flows.commands import build
from flows.execution.progress import SilentWatcher
from flows.pipelines.training import find_dataset
from flows.settings.build import BuildSettings
from flows.settings.evaluation import EvaluationSettings
from flows.settings.next_steps import NextSteps
from flows.summaries.training import training_facts
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError
from tests.support.files.evaluation_layouts import annotation, box, write_coco
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import CLIP, small_training

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]


@pytest.fixture
def evaluation(tmp_path: Path) -> EvaluationSettings:
    file = tmp_path / "scenes" / "annotations.json"
    write_coco(
        file,
        tmp_path / "scenes",
        {"a.png": (64, 80), "b.png": (70, 64)},
        [annotation(1, 1, box(5, 5, 30, 30), area=625.0)],
        {1: "red", 2: "green", 3: "blue"},
    )
    return EvaluationSettings(on=f"coco:{file}", maskclip=CLIP, image_size=64)


def made(store: str) -> dict[str, set[str]]:
    artifacts = ArtifactStore(store)
    stages = ("assemble_dataset", "pack_shards", "train", "evaluate")
    return {stage: {a.key for a in artifacts.published(stage)} for stage in stages}


def test_a_build_ends_in_scores_and_another_learning_rate_rebuilds_no_shard(
    settings: BuildSettings,
    evaluation: EvaluationSettings,
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
):
    steps = NextSteps(then="train+evaluate", training=small_training(), evaluation=evaluation)
    caller = build_pseudolabels.call_build(settings, steps, SilentWatcher())
    trained = caller.results[train_zutis.FLOW]
    evaluated = caller.results[evaluate_zutis.FLOW]
    assert trained.counts["iterations"] == 3
    assert evaluated.model.manifest["inputs"]["training"] == trained.key
    assert {"mean_iou", "ap"} <= evaluated.baseline.counts.keys()
    first = made(settings.store)
    assert {stage: len(keys) for stage, keys in first.items() if "_" not in stage} == {
        "train": 1, "evaluate": 2,
    }  # fmt: skip

    outcome = build.find_outcome(settings, steps)
    assert outcome is not None, "all is there: nothing is to be run"
    assert outcome.evaluation is not None
    assert outcome.evaluation.model.key == evaluated.model.key

    asked = fake_clip.calls + fake_selfmask.calls
    faster = NextSteps(
        then="train+evaluate", training=small_training(learning_rate=1e-4), evaluation=evaluation
    )
    assert build.find_outcome(settings, faster) is None
    build_pseudolabels.call_build(settings, faster, SilentWatcher())
    second = made(settings.store)
    assert second["pack_shards"] == first["pack_shards"]
    assert second["assemble_dataset"] == first["assemble_dataset"]
    assert fake_clip.calls + fake_selfmask.calls == asked
    assert (len(second["train"]), len(second["evaluate"])) == (2, 3), "MaskCLIP is not done again"


def test_a_pool_without_the_deployment_is_named(
    settings: BuildSettings, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
):
    steps = NextSteps(then="train", training=small_training(), work_pool="gpu")
    with pytest.raises(ConfigError, match="No deployment of train-zutis is in the work pool 'gpu'"):
        build_pseudolabels.call_build(settings, steps, SilentWatcher())
    assert len(made(settings.store)["assemble_dataset"]) == 1, "what was built is kept"


def test_the_commands_train_evaluate_and_find_it_again(
    settings: BuildSettings,
    evaluation: EvaluationSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
):
    build.run(settings)
    recipe = tmp_path / "small.yaml"
    recipe.write_text(json.dumps(small_training(leave_out=("blue",)).model_dump(mode="json")))
    train = ["train", "--set", str(recipe), "--iterations", "2", "--store", settings.store]
    score = [
        "evaluate", "--on", evaluation.on, "--set", f"maskclip={CLIP}", "--set", "image_size=64",
        "--store", settings.store,
    ]  # fmt: skip

    def run(arguments: list[str]) -> str:
        capsys.readouterr()
        assert exit_code_of(lambda: run_command_line(arguments)) == 0
        return capsys.readouterr().out

    printed = run(train)
    assert "2 iterations, 4 samples" in printed
    assert "2, 1 left out" in printed
    assert "untrained" in printed
    assert "Starting Prefect" not in run(train)
    # A model that leaves categories out is never the latest, and is named.
    [trained] = ArtifactStore(settings.store).published("train")
    score += ["--checkpoint", trained.key]
    printed = run(score)
    assert "mean IoU, 1 unseen categories" in printed
    assert "MaskCLIP" in printed
    assert "Starting Prefect" not in run(score)


def test_a_second_round_trains_on_labels_that_the_first_network_has_looked_at(
    settings: BuildSettings, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
):
    steps = NextSteps(then="train", training=small_training(rounds=2))
    caller = build_pseudolabels.call_build(settings, steps, SilentWatcher())
    second, built = caller.results[train_zutis.FLOW], caller.results[build_pseudolabels.FLOW]
    store = ArtifactStore(settings.store)
    labels = store.get(ArtifactRef("assemble_dataset", second.manifest["inputs"]["dataset"]))
    first = store.get(ArtifactRef("train", labels.manifest["inputs"]["labelled_by"]))
    assert first.manifest["inputs"]["dataset"] == built.dataset.key
    assert labels.counts["second_look"]["labels"] == built.dataset.counts["samples"]
    assert "labels were sharpened" in training_facts(second)["second look"]
    assert "second look" not in training_facts(first)

    outcome = build.find_outcome(settings, steps)
    assert outcome is not None, "all is there: nothing is to be run"
    assert outcome.training is not None
    assert outcome.training.key == second.key
    once = build.find_outcome(settings, NextSteps(then="train", training=small_training()))
    assert once is not None, "the first round is a training of its own"
    assert find_dataset(store, "").ref == built.dataset.ref, "the latest build's is trained on"


def test_rounds_without_a_training_are_refused():
    with pytest.raises(ConfigError, match="rounds is 2, and nothing is trained: add --then train"):
        NextSteps(training=small_training(rounds=2))
