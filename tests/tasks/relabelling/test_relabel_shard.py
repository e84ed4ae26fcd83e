"""The stage `relabel_shard`: its samples and changes, with a segmenter that knows the truth."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pycocotools.mask import encode

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.images.records import read_parquet, write_parquet
from storage.shards.samples import ShardSamples
from storage.shards.writing import Sample, SeveralObjects, ShardWriter
from tasks.packing import assemble_dataset
from tasks.prediction import segmenter
from tasks.prediction.segmenter import Segmentation
from tasks.relabelling import relabel_shard
from tasks.stage.contract import SilentProgress
from zutis_model.zutis.instance_prediction import Instances

HEIGHT, WIDTH = 96, 128
NAMES = ("cat", "dog", "owl")


def box(left: int, right: int, top: int = 20) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[top:70, left:right] = True
    return mask


TRUTH = box(30, 90)


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    rle = encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}


def sample(number: int, label: int, mask: np.ndarray, quality: float | None = None) -> Sample:
    """An image of a red rectangle (`TRUTH`) with a label."""
    pixels = np.where(TRUTH[..., None], (200, 40, 40), (40, 90, 60)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    facts = {
        "image_id": f"{number:04d}",
        "categories": [{"category_id": label, "quality": quality}],
        "mask": run_lengths(mask),
        "objectness": 0.9,
        "area": 0.1,
    }
    return Sample(f"{number:04d}", buffer.getvalue(), mask, label, facts)


SHIFTED = box(38, 90)
SAMPLES = (
    (sample(0, 1, SHIFTED), sample(1, 1, box(100, 128))),
    (sample(2, 2, SHIFTED, quality=0.2), sample(3, 2, SHIFTED, quality=0.9), sample(4, 3, SHIFTED)),
)


class TruthSegmenter:
    """Labels the true rectangle as everything that it has learned; knows no owls."""

    categories = ("dog", "cat")

    def segment(self, pixels: np.ndarray) -> Segmentation:
        masks = torch.from_numpy(np.stack([box(30, 90, top=28)] * 2))
        instances = Instances(
            category_ids=torch.tensor([1, 2]),
            scores=torch.tensor([0.9, 0.8]),
            masks=masks,
            boxes=torch.zeros(2, 4),
        )
        return Segmentation(labels=np.zeros(pixels.shape[:2], np.uint8), instances=instances)


def publish(store: ArtifactStore, stage: str, shards: Sequence[Sequence[Sample]] = ()) -> Artifact:
    recipe = Recipe(stage=stage, version=1, config={"of": len(shards)})
    with store.attempt(ArtifactRef(stage, recipe.key())) as attempt:
        tables = []
        for number, samples in enumerate(shards):
            name = f"small-{number:06d}.tar"
            with attempt.create(name) as file:
                writer = ShardWriter(file, len(NAMES))
                for each in samples:
                    writer.write(each)
                table = writer.close()
            names = pa.array([name] * table.num_rows, pa.string())
            tables.append(table.add_column(0, "shard", names))
        if tables:
            with attempt.create("index.parquet") as file:
                write_parquet(pa.concat_tables(tables), file)
        rows = [{"category_id": at, "name": name} for at, name in enumerate(NAMES, 1)]
        attempt.create_json("vocabulary.json", rows)
        return store.publish(attempt, recipe, counts={"samples": 5, "categories": [
            {**row, "masked": 1, "kept": 1, "dropped": 0} for row in rows
        ]}, inputs={"retrieval": "none"})  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    monkeypatch.setattr(segmenter, "zutis_segmenter", lambda *_, **__: TruthSegmenter())
    return ArtifactStore(str(tmp_path / "store"))


def run(store: ArtifactStore, shard: int, **settings: float) -> Artifact:
    training = publish(store, "train")
    dataset = store.find(publish_ref()) or publish(store, "assemble_dataset", SAMPLES)
    inputs = relabel_shard.Inputs(training.ref, dataset.ref, shard)
    config = relabel_shard.Config(**settings)
    return relabel_shard.run(config, inputs, store, SilentProgress())


def publish_ref() -> ArtifactRef:
    recipe = Recipe(stage="assemble_dataset", version=1, config={"of": len(SAMPLES)})
    return ArtifactRef("assemble_dataset", recipe.key())


def changes(artifact: Artifact) -> dict[str, str]:
    with artifact.open("changes.parquet") as file:
        rows = read_parquet(file).to_pylist()
    return {row["image_id"]: row["outcome"] for row in rows}


def test_labels_that_the_network_agrees_with_are_sharpened_and_others_say_why_not(store):
    assert changes(run(store, 0)) == {"0000": "sharpened", "0001": "disagreed"}
    assert changes(run(store, 1)) == {
        "0002": "low_quality",
        "0003": "sharpened",
        "0004": "not_learned",
    }


def test_samples_keep_their_image_order_and_label_and_say_what_was_done(store):
    relabelled = [run(store, number) for number in range(2)]
    plan = publish(store, "plan_shards")
    config = assemble_dataset.Config(name="again", clip="c", selfmask="s", untrained=False)
    inputs = assemble_dataset.Inputs(
        plan.ref, tuple(each.ref for each in relabelled), labelled_by=publish_ref()
    )
    dataset = assemble_dataset.run(config, inputs, store, SilentProgress())
    samples = ShardSamples.open(dataset)
    assert [samples.key(i) for i in range(5)] == ["0000", "0001", "0002", "0003", "0004"]
    assert samples.labels.tolist() == [1, 1, 2, 2, 3]
    first = [each for shard in SAMPLES for each in shard]
    for i, before in enumerate(first):
        stored = samples.read(i)
        mask, facts = samples.decode_object(i, stored), json.loads(stored.facts)
        assert stored.jpeg == before.jpeg
        assert np.array_equal(samples.decode_labels(i, stored.mask), mask * before.label)
        assert facts["objectness"] == 0.9
        if i in (0, 3):
            assert (mask ^ TRUTH).sum() < (before.mask ^ TRUTH).sum() / 4
            assert facts["area"] == mask.mean()
            assert facts["second_look"]["outcome"] == "sharpened"
        else:
            assert np.array_equal(mask, before.mask)
            assert facts["area"] == 0.1
    looked = dataset.counts["second_look"]
    assert looked["labels"] == 5
    assert looked["outcomes"] == {
        "disagreed": 1, "low_quality": 1, "not_learned": 1, "sharpened": 2
    }  # fmt: skip
    assert 0.8 < looked["iou_of_changed"] < 0.95
    with dataset.open("README.md") as file:
        assert "2 of 5 labels were sharpened" in file.read().decode()


def test_a_lower_bar_for_quality_lets_more_be_sharpened(store):
    assert changes(run(store, 1, least_quality=0.1))["0002"] == "sharpened"


def test_shards_have_keys_of_their_own_and_the_device_is_in_none(store):
    training, dataset = publish(store, "train"), publish(store, "assemble_dataset", SAMPLES)
    assert relabel_shard.shard_sizes(dataset) == [2, 3]

    def key(shard: int, **settings) -> str:
        inputs = relabel_shard.Inputs(training.ref, dataset.ref, shard)
        return relabel_shard.locate(relabel_shard.Config(**settings), inputs, store).key

    assert key(0) != key(1)
    assert key(0) == key(0, device="cuda")
    assert key(0) != key(0, least_agreement=0.6)


def test_the_same_inputs_give_the_same_bytes(store):
    def digests(artifact: Artifact) -> dict[str, str]:
        return {name: entry["sha256"] for name, entry in artifact.files.items()}

    first = digests(run(store, 0))
    store.delete(run(store, 0).ref)
    assert digests(run(store, 0)) == first


def several(number: int) -> Sample:
    """A sample with a cat and an object without a name."""
    plain = sample(number, 1, SHIFTED)
    objects = [
        {"category_id": 1, "name": "cat", "mask": run_lengths(SHIFTED), "area": 0.1},
        {"category_id": 0, "name": "", "mask": run_lengths(box(98, 124)), "area": 0.1},
    ]
    label_map = np.where(SHIFTED, 1, np.where(box(98, 124), 255, 0)).astype(np.uint8)
    return replace(
        plain,
        facts={**plain.facts, "objects": objects},
        several=SeveralObjects(label_map, (1,)),
    )


class SeveralSegmenter(TruthSegmenter):
    """Finds the true cat, a dog where the object without a name is, and is unsure of another."""

    def segment(self, pixels: np.ndarray) -> Segmentation:
        instances = Instances(
            category_ids=torch.tensor([1, 2, 1, 1]),
            scores=torch.tensor([0.9, 0.8, 0.3, 0.95]),
            masks=torch.from_numpy(
                np.stack([box(100, 126), box(30, 90, top=28), box(5, 20), box(40, 95)])
            ),
            boxes=torch.zeros(4, 4),
        )
        return Segmentation(labels=np.zeros(pixels.shape[:2], np.uint8), instances=instances)


def test_of_several_objects_those_that_the_network_is_sure_of_are_added(store, monkeypatch):
    monkeypatch.setattr(segmenter, "zutis_segmenter", lambda *_, **__: SeveralSegmenter())
    training = publish(store, "train")
    dataset = publish(store, "assemble_dataset", [[several(0)]])
    inputs = relabel_shard.Inputs(training.ref, dataset.ref, 0)
    made = relabel_shard.run(relabel_shard.Config(), inputs, store, SilentProgress())
    with made.open("changes.parquet") as file:
        rows = read_parquet(file, columns=["category_id", "outcome"]).to_pylist()
    assert rows == [
        {"category_id": 1, "outcome": "sharpened"},
        {"category_id": 2, "outcome": "added"},
    ]
    assert (made.counts["samples"], made.counts["added"]) == (1, 1)
    plan = publish(store, "plan_shards")
    config = assemble_dataset.Config(name="again", clip="c", selfmask="s", untrained=False)
    labelled = assemble_dataset.Inputs(plan.ref, (made.ref,), labelled_by=training.ref)
    again = ShardSamples.open(assemble_dataset.run(config, labelled, store, SilentProgress()))
    assert again.objects.of_sample(0) == [(0, 1), (1, 2)]
    stored = again.read(0)
    cat, dog = (again.decode_object(0, stored, place) for place in range(2))
    assert (cat ^ TRUTH).sum() < (SHIFTED ^ TRUTH).sum() / 4
    assert np.array_equal(dog, box(100, 126))
    label_map = again.decode_labels(0, stored.mask)
    assert set(np.unique(label_map)) == {0, 1, 2}, "the object has a name now"
    facts = json.loads(stored.facts)
    assert facts["mask"] == facts["objects"][0]["mask"]
    assert facts["objects"][1]["name"] == "dog"
    assert facts["objects"][1]["second_look"]["score"] == 0.9


def test_an_agreement_beyond_one_is_refused():
    with pytest.raises(ConfigError, match=r"least_agreement is 1.5: choose 0 to 1"):
        relabel_shard.Config(least_agreement=1.5)
