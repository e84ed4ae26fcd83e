"""The stage `relabel_shard`: a trained network looks again at the labels of one shard.

The samples stay the same, in the same order. Some labels get a sharper mask (`second_look`). A
label that is known to be of low quality stays as it is, however well the network agrees: it has
learned from that label. Where samples have several objects, those that the network finds beside
them are added, if it is as sure of them as of half of the shard's labels that it agrees with.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.images.masks import run_length_pixels
from storage.images.records import read_parquet, write_parquet
from storage.shards.samples import SampleBytes, ShardSamples
from storage.shards.writing import Sample, SeveralObjects, ShardWriter
from tasks.packing.object_labels import painted
from tasks.packing.second_look_sentence import ADDED, OUTCOMES
from tasks.prediction.stored_model import model_folder
from tasks.relabelling.objects_again import (
    Again,
    FirstLabel,
    Found,
    again,
    is_same,
    mask_facts,
    settled,
    uncovered,
)
from tasks.stage.contract import Progress, waiting
from tasks.stage.layout import CHANGES, SHARD, SHARD_INDEX

if TYPE_CHECKING:
    from tasks.prediction.dense_segmenter import DenseSegmenter, Segmentation

NAME = "relabel_shard"
VERSION = 1

_MASK_FACTS: Final = {"mask", "area", "border_contact", "components", "refiner_agreement"}

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("category_id", pa.int32()),
        ("outcome", pa.string()),
        ("agreement", pa.float32()),
        ("iou_with_first", pa.float32()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the second look.

    Attributes:
        least_agreement: IoU, 0..1, of the label's mask and the network's, from which the label is
            sharpened.
        least_quality: of labels that are sharpened, 0..1, where labels have a quality.
        device: of the network. Not part of the key.
        precision: of the network, `float32` or `bfloat16`.
    """

    least_agreement: float = 0.5
    least_quality: float = 0.5
    device: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name in ("least_agreement", "least_quality"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: choose 0 to 1.")


@dataclass(frozen=True)
class Inputs:
    """A training, the data set that it learned from, and the number of one of its shards."""

    training: ArtifactRef
    dataset: ArtifactRef
    shard: int


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config={
            "least_agreement": config.least_agreement,
            "least_quality": config.least_quality,
            "precision": config.precision,
        },
        inputs={"training": inputs.training.key, "dataset": inputs.dataset.key},
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key([inputs.shard]))


def shard_sizes(dataset: Artifact) -> list[int]:
    """Samples of each of a data set's shards, in their order."""
    return [end - start for start, end in _places(dataset)]


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `shard.tar`, `index.parquet` and `changes.parquet` (`SCHEMA`), a row for every
    label: `sharpened`, `added`, or why neither: the network `disagreed`, the label has a
    `low_quality`, or training left its category out (`not_learned`).

    Raises:
        ArtifactError: a sample is damaged.
        ConfigError: the device's memory is too small.
    """
    from tasks.prediction.segmenter import zutis_segmenter

    samples = ShardSamples.open(store.get(inputs.dataset))
    start, end = _places(store.get(inputs.dataset))[inputs.shard]
    rows: list[dict[str, Any]] = []
    ref = locate(config, inputs, store)
    with model_folder(store.get(inputs.training)) as folder, store.attempt(ref) as attempt:
        with waiting(progress, "loading the network"):
            segmenter = zutis_segmenter(folder, device=config.device, precision=config.precision)
            known = _known(samples, segmenter)
        with attempt.create(SHARD) as file:
            writer = ShardWriter(file, max(samples.categories))
            seen = []
            for i in range(start, end):
                seen.append(_look(samples, i, segmenter, known, config))
                progress.advance(1)
            sure = _median_score(seen)
            for i, look in zip(range(start, end), seen, strict=True):
                sample, described = _relabelled(samples, i, look, sure, inputs.training)
                writer.write(sample)
                rows += described
            index = writer.close()
        with attempt.create(SHARD_INDEX) as file:
            write_parquet(index, file)
        with attempt.create(CHANGES) as file:
            write_parquet(pa.Table.from_pylist(rows, SCHEMA), file)
        return store.publish(
            attempt, _recipe(config, inputs),
            counts={"samples": end - start, **_counted(rows)},
            notes={"shard": inputs.shard},
        )  # fmt: skip


def _places(dataset: Artifact) -> list[tuple[int, int]]:
    """First sample and the one after the last of each shard, in the index's order."""
    with dataset.open(SHARD_INDEX) as file:
        names = read_parquet(file, columns=["shard"])["shard"].combine_chunks()
    numbers = names.dictionary_encode().indices.to_numpy()
    starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
    return list(zip(starts, [*starts[1:], len(numbers)], strict=True))


def _counted(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    counts = Counter(row["outcome"] for row in rows)
    return {name: counts[name] for name in OUTCOMES}


@dataclass(frozen=True, eq=False)
class _Look:
    """What a network says of a sample: what became of each object (None of one without a name),
    and further instances, without their pixels."""

    objects: tuple[Again | None, ...]
    further: tuple[dict[str, Any], ...]


def _known(samples: ShardSamples, segmenter: DenseSegmenter) -> dict[int, int]:
    """The data set's category_ids by the network's labels."""
    ids = {name: number for number, name in samples.categories.items()}
    names = enumerate(segmenter.categories, start=1)
    return {label: ids[name] for label, name in names if name in ids}


def _look(
    samples: ShardSamples,
    i: int,
    segmenter: DenseSegmenter,
    known: Mapping[int, int],
    config: Config,
) -> _Look:
    stored = samples.read(i)
    facts = json.loads(stored.facts)
    several = "objects" in facts
    labels = _first_labels(samples, i, stored, facts, set(known.values()))
    settled_ones = [settled(label, config.least_quality) for label in labels]
    if not several and settled_ones[0]:
        return _Look(tuple(settled_ones), ())
    pixels = np.asarray(samples.decode_image(i, stored.jpeg, least=labels[0].mask.shape))
    segmentation = segmenter.segment(pixels)
    found = _found(segmentation, known)
    label_of = {number: label for label, number in known.items()}
    looked = []
    for label, known_already in zip(labels, settled_ones, strict=True):
        if not label.category_id or known_already:
            looked.append(known_already if label.category_id else None)
            continue
        region = segmentation.narrow_labels == label_of[label.category_id]
        looked.append(again(pixels, label, region, found, config.least_agreement))
    named = [label.mask for label in labels if label.category_id]
    further = uncovered(found, named) if several else []
    return _Look(tuple(looked), tuple(_described_instance(each, labels) for each in further))


def _first_labels(
    samples: ShardSamples,
    i: int,
    stored: SampleBytes,
    facts: Mapping[str, Any],
    learned: Collection[int],
) -> list[FirstLabel]:
    """The objects of a sample: its only one, or those of the JSON's list."""
    if "objects" not in facts:
        number = int(samples.labels[i])
        entries = [one for one in facts.get("categories", ()) if one["category_id"] == number]
        quality = entries[0].get("quality") if entries else None
        mask = samples.decode_object(i, stored)
        return [FirstLabel(number, mask, quality, number in learned)]
    return [
        FirstLabel(
            category_id=each["category_id"],
            mask=samples.decode_object(i, stored, place),
            quality=each.get("quality"),
            is_learned=each["category_id"] in learned,
        )
        for place, each in enumerate(facts["objects"])
    ]


def _found(segmentation: Segmentation, known: Mapping[int, int]) -> list[Found]:
    instances = segmentation.instances
    found = zip(
        instances.category_ids.tolist(), instances.scores.tolist(), instances.each_mask(),
        strict=True,
    )  # fmt: skip
    return [Found(known[label], score, mask) for label, score, mask in found if label in known]


def _described_instance(each: Found, labels: Sequence[FirstLabel]) -> dict[str, Any]:
    """A further instance as the JSON has it, its score, and the nameless objects that it is."""
    return {
        "category_id": each.category_id,
        "score": each.score,
        "instead_of": [
            place
            for place, label in enumerate(labels)
            if not label.category_id and is_same(label.mask, each)
        ],
        **mask_facts(each.mask, each.mask),
    }


def _median_score(looks: Sequence[_Look]) -> float:
    """Of the instances that labels agree with; infinite where there are none."""
    scores = [one.score for look in looks for one in look.objects if one and one.score is not None]
    return median(scores) if scores else math.inf


def _relabelled(
    samples: ShardSamples, i: int, look: _Look, sure: float, training: ArtifactRef
) -> tuple[Sample, list[dict[str, Any]]]:
    """A sample after the second look, and a row for each of its labels."""
    stored = samples.read(i)
    facts = json.loads(stored.facts)
    key, label = samples.key(i), int(samples.labels[i])
    if "objects" not in facts:
        [one] = look.objects
        assert one is not None, "the only object has a name"
        facts |= {**one.changed, "second_look": _told(one.outcome, one.agreement, training)}
        mask = run_length_pixels(facts["mask"]) if one.changed else samples.decode_object(i, stored)
        return Sample(key, stored.jpeg, mask, label, facts), [_row(key, label, one)]
    added = [each for each in look.further if each["score"] >= sure]
    objects, rows = _objects_after(key, facts["objects"], look.objects, added, training, samples)
    masks = [run_length_pixels(each["mask"]) for each in objects]
    numbers = [each["category_id"] for each in objects]
    first = numbers.index(label)
    of_first = objects[first].keys() & _MASK_FACTS
    facts |= {"objects": objects, **{name: objects[first][name] for name in of_first}}
    label_map = painted(zip(numbers, masks, strict=True), masks[first].shape, samples.ignore_label)
    several = SeveralObjects(label_map, tuple(filter(None, numbers)))
    return Sample(key, stored.jpeg, masks[first], label, facts, several), rows


def _objects_after(
    image_id: str,
    objects: Sequence[dict[str, Any]],
    looked: Sequence[Again | None],
    added: Sequence[dict[str, Any]],
    training: ArtifactRef,
    samples: ShardSamples,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The JSON's list of objects, those with a name first, and a row for each of these."""
    replaced = {place for each in added for place in each["instead_of"]}
    named, nameless, rows = [], [], []
    for place, (each, one) in enumerate(zip(objects, looked, strict=True)):
        if one is None:
            nameless += [] if place in replaced else [each]
            continue
        told = _told(one.outcome, one.agreement, training)
        named.append({**each, **one.changed, "second_look": told})
        rows.append(_row(image_id, each["category_id"], one))
    for each in added:
        plain = {name: value for name, value in each.items() if name != "instead_of"}
        told = {**_told(ADDED, 0.0, training), "score": round(plain.pop("score"), 4)}
        name = samples.categories[each["category_id"]]
        named.append({**plain, "name": name, "second_look": told})
        rows.append(_row(image_id, each["category_id"], Again(ADDED, 0.0, 0.0, None, {})))
    return [*named, *nameless], rows


def _told(outcome: str, agreement: float, training: ArtifactRef) -> dict[str, Any]:
    return {"outcome": outcome, "agreement": round(agreement, 4), "training": training.key}


def _row(image_id: str, label: int, one: Again) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "category_id": label,
        "outcome": one.outcome,
        "agreement": one.agreement,
        "iou_with_first": one.iou_with_first,
    }
