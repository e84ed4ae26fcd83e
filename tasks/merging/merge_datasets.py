"""The stage `merge_datasets`: the labels of several data sets under one vocabulary.

Categories are matched by their names and synonyms. An image that several data sets have is one
sample with the labels of all; of two labels of one object the better one is kept. The result is a
data set as `assemble_dataset` makes it, each sample with a list of objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pycocotools import mask as coco_mask

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ArtifactError
from storage.images.records import write_parquet
from storage.shards.samples import ShardSamples
from storage.shards.writing import Sample, SeveralObjects, ShardWriter, ignore_label
from storage.vocabularies.category import Category
from tasks.merging.card import card
from tasks.merging.merged_labels import (
    UNKNOWN,
    Label,
    categories_by_name,
    labels_of_sample,
    merged,
    renumbered,
)
from tasks.packing.object_labels import painted
from tasks.stage.contract import Progress
from tasks.stage.layout import CARD, SHARD_INDEX, VOCABULARY

NAME = "merge_datasets"
VERSION = 1

STAGE: Final = "assemble_dataset"
"""Of the artifact: whatever reads data sets reads merged ones."""

MERGED: Final = "merged"
"""Input of the artifact's manifest: the keys of the data sets."""

# Facts of a sample's image; those of its labels and masks are the objects'.
_IMAGE_FACTS: Final = (
    "image_id", "root", "uri", "member", "offset", "length", "height", "width", "original_bytes",
)  # fmt: skip

_MADE_BY: Final = ("weights", "artifacts", "datasets")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the merge.

    Attributes:
        name: of the shards.
        vocabulary: the merged data set's categories, in the order of their category_ids from 1.
        shard_bytes: of images a shard, about.
    """

    name: str
    vocabulary: tuple[Category, ...]
    shard_bytes: int = 256_000_000


@dataclass(frozen=True)
class Inputs:
    """The data sets; where labels are equally good, an earlier one's are kept."""

    datasets: tuple[ArtifactRef, ...]


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    return Recipe(
        stage=STAGE,
        version=VERSION,
        config={"name": config.name, "shard_bytes": config.shard_bytes},
        inputs={MERGED: [ref.key for ref in inputs.datasets]},
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(STAGE, _recipe(config, inputs).key(_described(config.vocabulary)))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish the shards, `index.parquet`, `vocabulary.json` and the card.

    The counts give the samples and shards, the labels, and those that were not taken by reason
    (`merged_labels`).

    Raises:
        ArtifactError: a data set is damaged, or no label is of a category of the vocabulary.
    """
    sources = [ShardSamples.open(store.get(ref)) for ref in inputs.datasets]
    images = _images(sources, config.vocabulary)
    left_out = sum((one.left_out for one in images), Counter[str]())
    images = sorted((one for one in images if one.labels), key=lambda one: one.order)
    if not images:
        raise ArtifactError(
            "No label of these data sets is of a category of the vocabulary: name one that has "
            "their categories, as names or synonyms."
        )
    with store.attempt(locate(config, inputs, store)) as attempt:
        tables = []
        for number, part in enumerate(_shards(images, sources, config.shard_bytes)):
            name = f"{config.name}-{number:06d}.tar"
            with attempt.create(name) as file:
                writer = ShardWriter(file, len(config.vocabulary))
                for image in part:
                    writer.write(_sample(image, sources, config))
                    progress.advance(1)
                table = writer.close()
            names = pa.array([name] * table.num_rows, pa.string())
            tables.append(table.add_column(0, "shard", names))
        with attempt.create(SHARD_INDEX) as file:
            write_parquet(pa.concat_tables(tables), file)
        attempt.create_json(VOCABULARY, _described(config.vocabulary))
        counts: dict[str, Any] = {
            "shards": len(tables),
            "samples": len(images),
            "labels": sum(len(one.labels) for one in images),
            "left_out": dict(sorted(left_out.items())),
            "categories": _labels_by_category(images),
        }
        with attempt.create(CARD) as file:
            keys = [ref.key for ref in inputs.datasets]
            file.write(card(config.name, keys, config.vocabulary, counts).encode())
        untrained = any(store.get(ref).notes.get("untrained") for ref in inputs.datasets)
        return store.publish(
            attempt,
            _recipe(config, inputs),
            counts=counts,
            notes={"untrained": untrained},
        )


@dataclass(frozen=True)
class _Image:
    """An image of some data sets.

    Attributes:
        key: its image_id.
        places: (number of the data set, index of the sample), the first data set first.
        labels: the best first; left_out: those that were not taken, by reason.
    """

    key: str
    places: tuple[tuple[int, int], ...]
    labels: tuple[Label, ...]
    left_out: Counter[str]

    @property
    def order(self) -> tuple[int, str]:
        """Shards are sorted by the category of the best label, as those of a build."""
        return self.labels[0].category_id, self.key


def _images(sources: Sequence[ShardSamples], vocabulary: Sequence[Category]) -> list[_Image]:
    by_name = categories_by_name(vocabulary)
    numbers = [renumbered(source.vocabulary, by_name) for source in sources]
    places: dict[str, list[tuple[int, int]]] = {}
    for number, source in enumerate(sources):
        for at in range(len(source)):
            places.setdefault(source.key(at), []).append((number, at))
    images = []
    for key, found in places.items():
        labels: list[Label] = []
        unknown = 0
        for number, at in found:
            own, lacking = labels_of_sample(sources[number].facts(at), numbers[number], number)
            labels += own
            unknown += lacking
        taken, left_out = merged(labels)
        if unknown:
            left_out[UNKNOWN] += unknown
        images.append(_Image(key, tuple(found), tuple(taken), left_out))
    return images


def _shards(
    images: Sequence[_Image], sources: Sequence[ShardSamples], shard_bytes: int
) -> Iterator[list[_Image]]:
    """Consecutive images, about `shard_bytes` of JPEGs a shard."""
    shard: list[_Image] = []
    size = 0
    for image in images:
        number, at = image.places[0]
        length = sources[number].place(at)[1]
        if shard and size + length > shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append(image)
        size += length
    yield shard


def _sample(image: _Image, sources: Sequence[ShardSamples], config: Config) -> Sample:
    number, at = image.places[0]
    stored, ignored = sources[number].read(at), ignore_label(len(config.vocabulary))
    masks = [_pixels(label) for label in image.labels]
    objects = [
        {
            **label.facts,
            "category_id": label.category_id,
            "name": config.vocabulary[label.category_id - 1].name,
            "dataset": label.source,
        }
        for label in image.labels
    ]
    every = [sources[number].facts(at) for number, at in image.places]
    best = image.labels[0]
    of_image: dict[str, Any] = {name: every[0][name] for name in _IMAGE_FACTS if name in every[0]}
    facts = {
        **of_image,
        "label": best.category_id,
        "ignore_label": ignored,
        "mask": best.facts["mask"],
        "objects": objects,
        "datasets": [
            {"number": number, **{name: own[name] for name in _MADE_BY if name in own}}
            for (number, _), own in zip(image.places, every, strict=True)
        ],
    }
    labels = tuple(label.category_id for label in image.labels)
    label_map = painted(zip(labels, masks, strict=True), masks[0].shape, ignored)
    return Sample(
        image.key, stored.jpeg, masks[0], best.category_id, facts,
        SeveralObjects(label_map, labels),
    )  # fmt: skip


def _pixels(label: Label) -> np.ndarray:
    """bool [height, width]."""
    return np.asarray(coco_mask.decode(label.facts["mask"]), dtype=np.bool_)


def _labels_by_category(images: Sequence[_Image]) -> dict[str, int]:
    """Number of labels by category_id."""
    found = Counter(label.category_id for image in images for label in image.labels)
    return {str(number): found[number] for number in sorted(found)}


def _described(vocabulary: Sequence[Category]) -> list[dict[str, Any]]:
    """The entries of `vocabulary.json`."""
    return [_entry(number, category) for number, category in enumerate(vocabulary, start=1)]


def _entry(number: int, category: Category) -> dict[str, Any]:
    known: Mapping[str, Sequence[str]] = {
        "synonyms": category.synonyms,
        "prompts": category.prompts,
    }
    return {
        "category_id": number,
        "name": category.name,
        "external_id": "" if category.external_id is None else str(category.external_id),
        **{name: list(values) for name, values in known.items() if values},
    }
