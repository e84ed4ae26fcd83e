"""Builds with several objects an image: named by CLIP, in label maps, JSON and training samples."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from flows.demo.settings import CLIP, SELFMASK
from flows.execution.executors import CachedExecutor, LocalExecutor
from flows.pipelines.build import Build, build
from flows.pipelines.quality import check_quality
from flows.settings.build import BuildSettings
from flows.settings.options import changed
from flows.summaries.build import summarise
from made_world.corpus import write_corpus
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.decisions.decision import Decision, DrawnMask, now
from storage.decisions.decision_file import append_decisions
from storage.errors.exceptions import WeightsError
from storage.shards.samples import ShardSamples
from tasks.stage.layout import CARD, CHOSEN_LABELS, MASKS
from tasks.training.samples import SampleRecipe, TrainingSamples
from tests.support.runs.builds import rows_of

KINDS = ("star", "heart", "fish")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> BuildSettings:
    folder = tmp_path_factory.mktemp("several")
    write_corpus(folder, 5, 30, KINDS, world="hard")
    (folder / "kinds.txt").write_text("\n".join(KINDS), encoding="utf-8")
    return BuildSettings(
        corpus=(str(folder / "pictures"),), vocabulary=str(folder / "kinds.txt"), per_category=6,
        clip=CLIP, selfmask=SELFMASK, mask_size=96, objects="many", device="cpu",
        store=str(folder / "store"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def several(settings: BuildSettings) -> Build:
    return built(settings)


@pytest.fixture(scope="module")
def samples(several: Build) -> ShardSamples:
    return ShardSamples.open(several.dataset)


def built(settings: BuildSettings, **more: Any) -> Build:
    wanted = changed(settings, **more)
    return build(wanted, LocalExecutor(ArtifactStore(wanted.store)))


def facts_of(samples: ShardSamples) -> list[dict[str, Any]]:
    return [json.loads(samples.read(at).facts) for at in range(len(samples))]


@pytest.mark.slow
def test_samples_have_all_objects_with_the_surest_first(several, samples):
    facts = facts_of(samples)
    assert any(sum(each["category_id"] > 0 for each in one["objects"]) > 1 for one in facts)
    for one in facts:
        labelled = [each for each in one["objects"] if each["category_id"]]
        assert one["objects"][: len(labelled)] == labelled
        sure = [each["name_probability"] for each in labelled]
        assert sure == sorted(sure, reverse=True)
        assert one["label"] in {each["category_id"] for each in labelled}
        assert {each["category_id"] for each in one["categories"]} == {
            each["category_id"] for each in labelled
        }
        assert one["mask"] in [each["mask"] for each in labelled]
    counts = several.shard_plan.counts["objects"]
    assert counts["objects"] == sum(
        each["category_id"] > 0 for one in facts for each in one["objects"]
    )


@pytest.mark.slow
def test_label_maps_show_all_objects_and_ignore_those_without_a_name(samples):
    for at, one in enumerate(facts_of(samples)):
        expected = np.zeros(one["mask"]["size"], dtype=np.uint8)
        for each in reversed(one["objects"]):
            expected[coco_mask.decode(each["mask"]) > 0] = each["category_id"] or 255
        assert np.array_equal(samples.decode_labels(at, samples.read(at).mask), expected)


@pytest.mark.slow
def test_the_index_lists_the_objects_and_decodes_each(samples):
    objects = samples.objects
    assert objects.several
    assert len(objects.labels) > len(samples)
    for at, one in enumerate(facts_of(samples)):
        stored = samples.read(at)
        for place, label in objects.of_sample(at):
            assert one["objects"][place]["category_id"] == label
            assert np.array_equal(
                samples.decode_object(at, stored, place),
                coco_mask.decode(one["objects"][place]["mask"]).astype(bool),
            )
    by_category = samples.objects_by_category()
    assert sum(map(len, by_category.values())) == len(objects.labels)


@pytest.mark.slow
def test_a_training_sample_has_every_object_of_its_first_image(samples):
    recipe = SampleRecipe(crop=96, max_objects=3, min_scale=1.0)
    training = TrainingSamples(samples, recipe, seed=3, length=12)
    for number in range(12):
        sample, draws = training[number], training.draws(number)
        own = samples.objects.of_sample(draws[0].index)
        labels = [label for _, label in own] + [draw.label for draw in draws[1:]]
        assert sample.category_ids.tolist() == labels
        assert len(sample.instances) == len(labels)
        assert sample.instances.sum(dim=0).max() <= 1
        for instance, label in zip(sample.instances, labels, strict=True):
            assert (sample.semantic[instance] == label).all()
        assert set(sample.semantic.unique().tolist()) <= {0, 255, *labels}


@pytest.mark.slow
def test_a_category_that_is_left_out_is_ignored_where_others_are_kept(several, samples):
    kept = ShardSamples.open(several.dataset, leave_out=["heart"])
    assert set(kept.categories.values()) == {"star", "fish"}
    assert set(kept.objects.labels.tolist()) <= {1, 2}
    of_hearts = {one["image_id"] for one in facts_of(samples) if one["label"] == 2}
    assert not of_hearts & {kept.key(at) for at in range(len(kept))}
    for at in range(len(kept)):
        shown = set(np.unique(kept.decode_labels(at, kept.read(at).mask)).tolist())
        assert shown <= {0, 1, 2, 255}


@pytest.mark.slow
def test_the_card_and_the_summary_count_objects(several):
    with several.dataset.open(CARD) as file:
        card = file.read().decode()
    assert "## Objects" in card
    assert 'reversed(facts["objects"])' in card
    assert "samples have several" in summarise(several, []).facts["objects"]


@pytest.mark.slow
def test_labels_of_objects_are_judged_and_left_out_one_by_one(settings, several):
    judged = built(settings, keep="60%")
    chosen = rows_of(judged.judged.chosen, CHOSEN_LABELS)
    assert len(chosen) == several.shard_plan.counts["objects"]["objects"]
    kept = sum(row["kept"] for row in chosen)
    facts = facts_of(ShardSamples.open(judged.dataset))
    labelled = [each for one in facts for each in one["objects"] if each["category_id"]]
    assert len(labelled) == kept < len(chosen)
    assert all(0 <= each["quality"] <= 1 for each in labelled)
    assert all("quality" in each for one in facts for each in one["categories"])


@pytest.mark.slow
def test_the_same_build_is_found_again(settings, several):
    again = build(settings, CachedExecutor(ArtifactStore(settings.store)))
    assert again.dataset.ref == several.dataset.ref


@pytest.mark.slow
def test_an_image_has_several_masks_which_no_build_with_one_takes(settings, several):
    store = ArtifactStore(settings.store)
    keys = {row["masked"] for row in rows_of(several.shard_plan, "samples.parquet")}
    rows = [
        row for key in keys for row in rows_of(store.get(ArtifactRef("make_masks", key)), MASKS)
    ]
    assert len(rows) > len({row["image_id"] for row in rows})
    one = built(settings, objects="one")
    assert not keys & {row["masked"] for row in rows_of(one.shard_plan, "samples.parquet")}
    assert "objects" not in one.shard_plan.counts


def test_a_clip_without_patch_tokens_cannot_name_objects(settings):
    with pytest.raises(WeightsError, match="--objects many"):
        check_quality(changed(settings, quality_clip="coca_ViT-B-32:random:0"))


@pytest.mark.slow
def test_decisions_are_about_single_objects(settings, several, samples, tmp_path):
    before = {one["image_id"]: one for one in facts_of(samples)}
    of_several = [one for one in before.values()
                  if sum(each["category_id"] > 0 for each in one["objects"]) > 1]  # fmt: skip
    renamed, redrawn, rejected = of_several[:3]
    box = np.zeros(redrawn["mask"]["size"], dtype=np.uint8, order="F")
    box[2:20, 3:30] = 1
    counts = coco_mask.encode(box)["counts"].decode()

    def of(one, verdict, **more):
        first = one["objects"][0]
        return Decision(image_id=one["image_id"], category=first["name"], mask=first["mask_id"],
                        verdict=verdict, when=now(), **more)  # fmt: skip

    [other] = [name for name in KINDS if name not in
               {each["name"] for each in renamed["objects"]}][:1] or ["heart"]  # fmt: skip
    drawn = DrawnMask(*redrawn["mask"]["size"], counts)
    append_decisions(
        tmp_path / "d.jsonl",
        [of(renamed, "rename", to=other), of(redrawn, "redraw", drawn=drawn),
         of(rejected, "reject")],
    )  # fmt: skip
    made = built(settings, decisions=str(tmp_path / "d.jsonl"))
    found = ShardSamples.open(made.dataset)
    after = {one["image_id"]: one for one in facts_of(found)}
    assert {key: one for key, one in after.items() if one != before[key]}.keys() == {
        one["image_id"] for one in (renamed, redrawn, rejected)
    }
    first = after[renamed["image_id"]]["objects"][0]
    assert first["name"] == other
    assert "name_probability" not in first
    assert other in {each["name"] for each in after[renamed["image_id"]]["categories"]}
    first = after[redrawn["image_id"]]["objects"][0]
    assert first["mask"] == {"size": redrawn["mask"]["size"], "counts": counts}
    assert first["mask_id"] == drawn.named(redrawn["image_id"])
    gone = rejected["objects"][0]["mask_id"]
    [object_] = [each for each in after[rejected["image_id"]]["objects"]
                 if each["mask_id"] == gone]  # fmt: skip
    assert object_["category_id"] == 0, "its pixels are to be ignored"
    for at in range(len(found)):
        one = after[found.key(at)]
        expected = np.zeros(one["mask"]["size"], dtype=np.uint8)
        for each in reversed(one["objects"]):
            expected[coco_mask.decode(each["mask"]) > 0] = each["category_id"] or 255
        assert np.array_equal(found.decode_labels(at, found.read(at).mask), expected)
