"""Builds whose labels are judged: all before the shards stays, and samples tell quality."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flows.demo.settings import CLIP, SELFMASK
from flows.execution.executors import CachedExecutor, LocalExecutor
from flows.pipelines.build import Build, build
from flows.pipelines.quality import check_quality
from flows.pipelines.training import train_model
from flows.settings.build import BuildSettings
from flows.settings.next_steps import BuildOptions
from flows.settings.options import changed
from flows.settings.training import training_config
from flows.summaries.build import summarise
from flows.summaries.training import training_facts
from made_world.corpus import write_corpus
from storage.artifacts.store import ArtifactStore
from storage.errors.exceptions import ConfigError, WeightsError
from storage.shards.samples import ShardSamples
from tasks.stage.layout import CARD, CHOSEN_LABELS
from tests.support.runs.builds import rows_of, small_training

KINDS = ("star", "heart", "fish")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> BuildSettings:
    folder = tmp_path_factory.mktemp("judged")
    write_corpus(folder, 5, 30, KINDS, world="hard")
    (folder / "kinds.txt").write_text("\n".join(KINDS), encoding="utf-8")
    return BuildSettings(
        corpus=(str(folder / "pictures"),), vocabulary=str(folder / "kinds.txt"), per_category=6,
        clip=CLIP, selfmask=SELFMASK, mask_size=64, device="cpu", store=str(folder / "store"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def plain(settings: BuildSettings) -> Build:
    return built(settings)


def built(settings: BuildSettings, **more: Any) -> Build:
    wanted = changed(settings, **more)
    return build(wanted, LocalExecutor(ArtifactStore(wanted.store)))


def facts(outcome: Build) -> list[dict[str, Any]]:
    samples = ShardSamples.open(outcome.dataset)
    return [json.loads(samples.read(at).facts) for at in range(len(samples))]


@pytest.mark.slow
def test_judging_changes_nothing_before_the_shards(settings, plain):
    judged = built(settings, quality=True)
    assert judged.retrieval.ref == plain.retrieval.ref
    assert judged.index.ref == plain.index.ref
    assert judged.judged is not None
    assert plain.judged is None
    assert judged.shard_plan.ref != plain.shard_plan.ref


@pytest.mark.slow
def test_the_samples_the_card_and_the_summary_tell_quality(settings, plain):
    judged = built(settings, quality=True)
    labels = [label for sample in facts(judged) for label in sample["categories"]]
    assert labels
    assert all(0 <= label["quality"] <= 1 for label in labels)
    assert all("quality" not in label for each in facts(plain) for label in each["categories"])
    with judged.dataset.open(CARD) as file:
        card = file.read().decode()
    assert "## Quality" in card
    assert "fixed formula" in card
    assert "mean quality" in summarise(judged, []).facts["quality"]
    assert "quality" not in summarise(plain, []).facts


@pytest.mark.slow
def test_the_worst_labels_are_left_out_and_stay_in_the_records(settings):
    judged = built(settings, keep="50%")
    assert judged.judged is not None
    rows = rows_of(judged.judged.chosen, CHOSEN_LABELS)
    for category in {row["category"] for row in rows}:
        own = [row for row in rows if row["category"] == category]
        kept = [row["quality"] for row in own if row["kept"]]
        left = [row["quality"] for row in own if not row["kept"]]
        assert len(kept) == (len(own) + 1) // 2
        assert max(left, default=0) <= min(kept)
    assert len(facts(judged)) == sum(row["kept"] for row in rows)


@pytest.mark.slow
def test_of_near_duplicates_the_best_label_is_kept(settings):
    judged = built(settings, quality=True, duplicates="drop", per_category=20)
    assert judged.chosen is not None
    rows = rows_of(judged.chosen, CHOSEN_LABELS)
    left = [row for row in rows if row["reason"] == "near_duplicate"]
    assert left
    for row in left:
        [kept] = [
            other for other in rows
            if (other["image_id"], other["category_id"])
            == (row["duplicate_of"], row["category_id"])
        ]  # fmt: skip
        assert kept["kept"]
        assert kept["quality"] >= row["quality"]
    told = summarise(judged, []).facts
    assert f"left out: {len(left)} near_duplicate" in told["quality"]
    assert "labels" not in told, "which would say it twice"
    assert all("quality" in label for each in facts(judged) for label in each["categories"])


@pytest.mark.slow
def test_a_second_run_finds_everything(settings):
    judged = built(settings, min_quality=0.01)
    again = build(
        changed(settings, min_quality=0.01), CachedExecutor(ArtifactStore(settings.store))
    )
    assert again.dataset.ref == judged.dataset.ref


@pytest.mark.slow
def test_a_training_weighs_losses_by_quality(settings, plain):
    judged = built(settings, quality=True)
    weighting = training_config(small_training(weight_by="quality"))
    executor = LocalExecutor(ArtifactStore(settings.store))
    trained = train_model(weighting, judged.dataset, executor)
    assert 0 < trained.notes["quality"]["mean"] < 1
    assert "losses weighted by quality" in training_facts(trained)["labels"]
    with pytest.raises(ConfigError, match=r"build with --quality, or set weight_by to none"):
        train_model(weighting, plain.dataset, executor)


def test_a_build_for_a_training_that_weighs_by_quality_judges_its_labels(settings):
    given = {"corpus": settings.corpus, "vocabulary": settings.vocabulary, "then": "train"}
    training = {"weight_by": "quality"}
    with pytest.raises(ConfigError, match=r"weight_by=quality needs .*: add --quality"):
        BuildOptions(**given, training=training)
    assert BuildOptions(**given, training=training, quality=True).trains
    assert BuildOptions(**given, training=training, min_quality=0.5).trains
    assert BuildOptions(**given | {"then": "none"}, training=training)


@pytest.mark.parametrize("given", [{"quality": True}, {"min_quality": 0.5}, {"keep": "80%"}])
def test_options_that_use_quality_imply_it(settings, given):
    assert changed(settings, **given).judges_labels
    assert not settings.judges_labels


@pytest.mark.parametrize("given", ["0%", 0, "120%", "-5%", "some"])
def test_a_share_that_can_not_be_is_refused(settings, given):
    with pytest.raises(ConfigError, match="keep is"):
        changed(settings, keep=given)


def test_shares_may_be_written_in_per_cent(settings):
    assert changed(settings, keep="80%").keep == changed(settings, keep=0.8).keep == 0.8


def test_a_clip_without_patch_tokens_is_refused_before_any_work(settings):
    with pytest.raises(WeightsError, match="no patch tokens"):
        check_quality(changed(settings, quality=True, quality_clip="coca_ViT-B-32:random:0"))


def test_a_given_clip_looks_at_the_masks_too(settings):
    clip = check_quality(changed(settings, quality=True))
    assert clip is not None
    assert clip.architecture == CLIP.partition(":")[0]
