"""The stage `relabel_shard`: a trained network looks again at the labels of one shard.

The samples stay the same, in the same order; some get a sharper mask (`second_look`). A label that
is known to be of low quality stays as it is, however well the network agrees: it has learned from
that label.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.images.records import read_parquet, write_parquet
from storage.shards.samples import ShardSamples
from storage.shards.writing import Sample, ShardWriter
from tasks.packing.second_look_sentence import DISAGREED, LOW_QUALITY, NOT_LEARNED, SHARPENED
from tasks.prediction.stored_model import model_folder
from tasks.relabelling.second_look import Mask, SecondLook, look_again
from tasks.stage.contract import Progress, waiting
from tasks.stage.layout import CHANGES, SHARD, SHARD_INDEX

if TYPE_CHECKING:
    from tasks.prediction.dense_segmenter import DenseSegmenter, Segmentation

NAME = "relabel_shard"
VERSION = 1

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
    sample: `sharpened`, or why not: the network `disagreed`, the label has a `low_quality`, or
    training left its category out (`not_learned`).

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
        with attempt.create(SHARD) as file:
            writer = ShardWriter(file, max(samples.categories))
            for sample, row in _relabelled(samples, range(start, end), segmenter, config, inputs):
                writer.write(sample)
                rows.append(row)
                progress.advance(1)
            index = writer.close()
        with attempt.create(SHARD_INDEX) as file:
            write_parquet(index, file)
        with attempt.create(CHANGES) as file:
            write_parquet(pa.Table.from_pylist(rows, SCHEMA), file)
        return store.publish(
            attempt, _recipe(config, inputs),
            counts={"samples": len(rows), **_counted(rows)},
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
    return {name: counts[name] for name in (SHARPENED, DISAGREED, LOW_QUALITY, NOT_LEARNED)}


def _relabelled(
    samples: ShardSamples,
    chosen: range,
    segmenter: DenseSegmenter,
    config: Config,
    inputs: Inputs,
) -> Iterator[tuple[Sample, dict[str, Any]]]:
    """Every sample after the second look, and its row."""
    learned = {name: label for label, name in enumerate(segmenter.categories, start=1)}
    for i in chosen:
        stored = samples.read(i)
        facts = json.loads(stored.facts)
        first, label = samples.decode_object(i, stored), int(samples.labels[i])
        seen_as = learned.get(samples.categories[label])
        if seen_as is None:
            outcome, look = NOT_LEARNED, SecondLook(first, first, 0.0, is_sharpened=False)
        elif _quality(facts, label) < config.least_quality:
            outcome, look = LOW_QUALITY, SecondLook(first, first, 0.0, is_sharpened=False)
        else:
            pixels = np.asarray(samples.decode_image(i, stored.jpeg, least=first.shape))
            found = _masks_of(segmenter.segment(pixels), seen_as)
            look = look_again(pixels, first, found, config.least_agreement)
            outcome = SHARPENED if look.is_sharpened else DISAGREED
        second = _described(look, outcome, inputs.training)
        mask = _mask_facts(look) if look.is_sharpened else {}
        yield (
            Sample(samples.key(i), stored.jpeg, look.mask, label, {**facts, **mask, **second}),
            _row(samples.key(i), label, outcome, first, look),
        )


def _quality(facts: dict[str, Any], label: int) -> float:
    """Of the label in the label map; 1 where it has none."""
    for category in facts.get("categories", ()):
        if category["category_id"] == label and category.get("quality") is not None:
            return float(category["quality"])
    return 1.0


def _masks_of(segmentation: Segmentation, label: int) -> Iterator[Mask]:
    """The network's masks of a category: the region that it labels so, and each instance."""
    yield segmentation.narrow_labels == label
    instances = segmentation.instances
    for category, mask in zip(instances.category_ids.tolist(), instances.each_mask(), strict=True):
        if category == label:
            yield mask


def _mask_facts(look: SecondLook) -> dict[str, Any]:
    """What the sample's JSON says of a new mask, in place of what it said of the first one."""
    from pycocotools.mask import encode

    from zutis_model.refinement.mask_statistics import mask_statistics

    statistics = mask_statistics(look.mask, look.unrefined)
    counts = encode(np.asfortranarray(look.mask, dtype=np.uint8))["counts"].decode("ascii")
    return {
        "mask": {"size": list(look.mask.shape), "counts": counts},
        "area": statistics.area_fraction,
        "border_contact": statistics.border_contact,
        "components": statistics.components,
        "refiner_agreement": statistics.refiner_agreement,
    }


def _described(look: SecondLook, outcome: str, training: ArtifactRef) -> dict[str, Any]:
    return {
        "second_look": {
            "outcome": outcome,
            "agreement": round(look.agreement, 4),
            "training": training.key,
        }
    }


def _row(image_id: str, label: int, outcome: str, first: Mask, look: SecondLook) -> dict[str, Any]:
    from zutis_model.refinement.mask_statistics import intersection_over_union

    return {
        "image_id": image_id,
        "category_id": label,
        "outcome": outcome,
        "agreement": look.agreement,
        "iou_with_first": intersection_over_union(look.mask, first),
    }
