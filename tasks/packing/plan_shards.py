"""The stage `plan_shards`: labels joined with images and masks, sorted, and cut into shards.

Samples are sorted by category and then by image_id, and cuts depend on the samples' image_ids.
Adding a category or some images therefore changes only the shards around them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe, digest, unless_default
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError, CorpusError
from storage.images.records import read_parquet, write_parquet
from tasks.packing.decided_labels import DECISION, follow_decisions
from tasks.packing.object_labels import OBJECT, QUALITY, categories_of, is_judged, objects_by_image
from tasks.packing.source_names import source_name
from tasks.stage.contract import Progress
from tasks.stage.layout import (
    CHOSEN_LABELS,
    MASKS,
    RETRIEVAL,
    RETRIEVED_IMAGES,
    SAMPLES,
    VOCABULARY,
)

NAME = "plan_shards"
VERSION = 1
# Bytes of a sample beside its image: mask, JSON and three tar headers.
_OVERHEAD_BYTES = 8_192
_LABEL = pa.struct(
    [
        ("category_id", pa.int32()),
        ("name", pa.string()),
        ("external_id", pa.string()),
        ("rank", pa.int32()),
        ("score", pa.float32()),
    ]
)
_JUDGED_LABEL = pa.struct([*_LABEL, *((name, pa.float32()) for name in QUALITY)])


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the shards.

    Attributes:
        shard_bytes: approximate size of a shard, which varies from half to one and a half of it.
        roots: folders of the corpus, to which local files are named relatively; none: full URIs.
    """

    shard_bytes: int = 256_000_000
    roots: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.shard_bytes < 1:
            raise ConfigError(f"shard_mb gives {self.shard_bytes} bytes: give 1 or more.")


@dataclass(frozen=True)
class Category:
    """The category of a label. Fields that the vocabulary doesn't give are empty."""

    category_id: int
    name: str
    external_id: str = ""
    synonyms: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()

    @property
    def described(self) -> dict[str, Any]:
        """The entry of `vocabulary.json` and of the key: without synonyms and prompts where there
        are none, so that a list of bare names keeps its key."""
        plain = {
            "category_id": self.category_id,
            "name": self.name,
            "external_id": self.external_id,
        }
        words = {"synonyms": list(self.synonyms), "prompts": list(self.prompts)}
        return plain | {key: value for key, value in words.items() if value}


@dataclass(frozen=True)
class Inputs:
    """A retrieval, the masks of its images, the vocabulary's categories, and, where labels were
    chosen, these; without, all that the retrieval keeps. With several objects an image, also their
    names, which then are the labels; and what people decided about labels, of `import_decisions`,
    which the choice has followed."""

    retrieval: ArtifactRef
    masks: tuple[ArtifactRef, ...]
    categories: tuple[Category, ...]
    chosen: ArtifactRef | None = None
    named: ArtifactRef | None = None
    decided: ArtifactRef | None = None


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config={"shard_bytes": config.shard_bytes, **unless_default(config, "roots")},
        inputs={
            "retrieval": inputs.retrieval.key,
            "masks": sorted(ref.key for ref in inputs.masks),
            **({"chosen": inputs.chosen.key} if inputs.chosen else {}),
            **({"named": inputs.named.key} if inputs.named else {}),
            **({"decided": inputs.decided.key} if inputs.decided else {}),
        },
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    items = [category.described for category in inputs.categories]
    return ArtifactRef(NAME, _recipe(config, inputs).key(items))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `samples.parquet`, one row per sample in the order of the shards.

    Columns: those of the retrieval's `images.parquet`, `masked` (key of the mask's artifact),
    `label` (the category_id in the label map), `labels` (all categories that kept the image:
    category_id, name, external_id, rank, score; of judged labels also quality and its factors),
    `shard`; with several objects an image `objects` (`object_labels.OBJECT`), whose categories are
    the `labels` then; where people changed labels `decisions` (`decided_labels.DECISION`), empty of
    samples that stay as they were. The counts give, per category, the
    numbers of rows that were retrieved, kept and dropped, and `masked`: the number of samples with
    it in their label map, which is what a training sees; of labels that were chosen also what was
    left out, as `judged` where they have a quality and as `chosen` where images were compared; and
    those of `import_decisions`, as `decided`.

    Raises:
        CorpusError: no retrieved image has a usable mask.
    """
    with store.get(inputs.retrieval).open(RETRIEVAL) as file:
        retrieval = read_parquet(file)
    with store.get(inputs.retrieval).open(RETRIEVED_IMAGES) as file:
        images = {row["image_id"]: row for row in read_parquet(file).to_pylist()}
    masks = _mask_owners(inputs.masks, images, store)
    categories = {category.category_id: category for category in inputs.categories}
    objects = objects_by_image(inputs.named, inputs.chosen, store) if inputs.named else {}
    judged = is_judged(inputs.chosen, store)
    decisions: dict[str, list[dict[str, Any]]] = {}
    if inputs.named:
        if inputs.decided:
            decisions = follow_decisions(objects, inputs.decided, categories, store)
        labels = _labels_of_objects(objects, categories, judged=judged)
    else:
        labels = _labels(retrieval, categories, _chosen(inputs.chosen, store))
        if inputs.decided:
            decisions = follow_decisions(labels, inputs.decided, categories, store)
    samples = [
        images[image_id]
        | {"masked": masks.usable[image_id], "label": found[0]["category_id"], "labels": found}
        | ({"objects": objects[image_id]} if inputs.named else {})
        | ({"decisions": decisions.get(image_id)} if decisions else {})
        for image_id, found in labels.items()
        if image_id in masks.usable
    ]
    if inputs.named and not samples:
        raise CorpusError(
            f"No object of the {len(images)} retrieved images has a clear name: check that the "
            "corpus shows what the vocabulary names, choose another --quality-clip, or lower "
            "--min-quality, if you gave it."
        )
    if not samples:
        raise CorpusError(
            f"None of the {len(images)} retrieved images has a usable mask "
            f"({_listed(masks.rejects)}): check that the corpus has photographs and not label "
            "maps or drawings, check the --selfmask weights, or raise --mask-size."
        )
    if config.roots:
        samples = [sample | _source(sample["uri"], config.roots) for sample in samples]
    samples.sort(key=lambda sample: (sample["label"], sample["image_id"]))
    sizes = [sample["length"] + _OVERHEAD_BYTES for sample in samples]
    shards = cut_shards([sample["image_id"] for sample in samples], sizes, config.shard_bytes)
    progress.advance(len(samples))
    table = _samples_table(samples, shards, _JUDGED_LABEL if judged else _LABEL)
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(SAMPLES) as file:
            write_parquet(table, file)
        attempt.create_json(VOCABULARY, [category.described for category in inputs.categories])
        return store.publish(
            attempt,
            _recipe(config, inputs),
            counts={
                "samples": len(samples),
                "rejects": masks.rejects,
                "categories": _category_counts(retrieval, samples, inputs.categories),
                **(_choice(inputs.chosen, store) if inputs.chosen else {}),
                **({"objects": _object_counts(samples)} if inputs.named else {}),
                **({"decided": store.get(inputs.decided).counts} if inputs.decided else {}),
            },
            notes={"parts": _describe_shards(table)},
        )


def _source(uri: str, roots: Sequence[str]) -> dict[str, str]:
    """The file's name in the shard: columns of `samples.parquet`."""
    root, path = source_name(uri, roots)
    return {"root": root, "path": path}


@dataclass(frozen=True)
class _MaskOwners:
    usable: dict[str, str]  # image_id to key of the artifact with its mask
    rejects: dict[str, int]


def _mask_owners(
    refs: Sequence[ArtifactRef], wanted: dict[str, Any], store: ArtifactStore
) -> _MaskOwners:
    usable: dict[str, str] = {}
    rejected: dict[str, str] = {}
    for ref in sorted(refs, key=str):
        with store.get(ref).open(MASKS) as file:
            table = read_parquet(file, columns=["image_id", "reject_reason"])
        for row in table.to_pylist():
            if row["image_id"] not in wanted:
                continue
            if row["reject_reason"]:
                rejected.setdefault(row["image_id"], row["reject_reason"])
            else:
                usable.setdefault(row["image_id"], ref.key)
    reasons = Counter(reason for image_id, reason in rejected.items() if image_id not in usable)
    return _MaskOwners(usable, dict(sorted(reasons.items())))


def _choice(ref: ArtifactRef, store: ArtifactStore) -> dict[str, Any]:
    """What became of labels that were chosen: `judged`, with what the estimate of their quality is
    worth, where they have one; `chosen` where leaks or near-duplicates were left out."""
    chosen = store.get(ref)
    told: dict[str, Any] = {}
    if scores := chosen.manifest["inputs"].get("labels"):
        with chosen.open(CHOSEN_LABELS) as file:
            quality = read_parquet(file, columns=["quality"])["quality"].to_numpy()
        known = quality[~np.isnan(quality)]
        told["judged"] = {
            **chosen.counts,
            "mean_quality": round(float(known.mean()), 4) if len(known) else None,
            **store.get(ArtifactRef("score_labels", scores)).notes,
        }
    if chosen.notes:
        told["chosen"] = {**chosen.counts, **chosen.notes}
    return told


_Chosen = dict[tuple[str, int], dict[str, Any]]


def _chosen(ref: ArtifactRef | None, store: ArtifactStore) -> _Chosen | None:
    """Of each chosen label, by image_id and category_id, its quality if it has one; None where none
    was chosen."""
    if ref is None:
        return None
    with store.get(ref).open(CHOSEN_LABELS) as file:
        table = read_parquet(file)
    facts = [name for name in QUALITY if name in table.column_names]
    kept = table.filter(table["kept"]).select(["image_id", "category_id", *facts]).to_pylist()
    return {
        (row["image_id"], row["category_id"]): {name: row[name] for name in facts} for row in kept
    }


def _labels(
    retrieval: pa.Table, categories: dict[int, Category], chosen: _Chosen | None
) -> dict[str, list[dict[str, Any]]]:
    """The kept categories of every image, the most probable first, which is in the label map."""
    kept = retrieval.filter(retrieval["kept"]).to_pylist()
    kept.sort(key=lambda row: (-row["probability"], row["rank"], row["category_id"]))
    labels: dict[str, list[dict[str, Any]]] = {}
    for row in kept:
        category = categories[row["category_id"]]
        quality = {} if chosen is None else chosen.get((row["image_id"], category.category_id))
        if quality is None:
            continue
        label = {
            "category_id": category.category_id,
            "name": category.name,
            "external_id": category.external_id,
            "rank": row["rank"],
            "score": row["score"],
            **quality,
        }
        labels.setdefault(row["image_id"], []).append(label)
    return labels


def _labels_of_objects(
    objects: dict[str, list[dict[str, Any]]], categories: dict[int, Category], *, judged: bool
) -> dict[str, list[dict[str, Any]]]:
    """The categories of every image's objects; the first is the one that the sample counts for."""
    external_ids = {number: category.external_id for number, category in categories.items()}
    return {
        image_id: categories_of(found, external_ids, judged=judged)
        for image_id, found in objects.items()
    }


def _object_counts(samples: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many objects have a label, and in how many samples there are several."""
    numbers = [sum(each["category_id"] > 0 for each in row["objects"]) for row in samples]
    return {
        "objects": sum(numbers),
        "ignored": sum(len(row["objects"]) for row in samples) - sum(numbers),
        "samples_with_several": sum(number > 1 for number in numbers),
    }


def cut_shards(image_ids: Sequence[str], sizes: Sequence[int], shard_bytes: int) -> np.ndarray:
    """The shard of each sample, by content-defined cuts.

    A sample opens a new shard if the current one has half of `shard_bytes` and the end of the
    sample's image_id, taken as a random number, is below the sample's share of the other half; or
    if the current one would exceed one and a half. (Samples are sorted by the beginning of their
    image_ids, by which only the first samples of a category could ever be chosen.)

    Args:
        image_ids: sha256 in hex, in the order of the samples.
        sizes: bytes, in the same order.
        shard_bytes: the target size.

    Returns:
        int32 [n], from 0, not decreasing.
    """
    shards = np.empty(len(image_ids), dtype=np.int32)
    shard, load = 0, 0
    for place, (image_id, size) in enumerate(zip(image_ids, sizes, strict=True)):
        chosen = int(image_id[-12:], 16) / 16**12 < 2 * size / shard_bytes
        full_enough = 2 * load >= shard_bytes
        if load and ((full_enough and chosen) or 2 * (load + size) > 3 * shard_bytes):
            shard, load = shard + 1, 0
        shards[place] = shard
        load += size
    return shards


def _samples_table(
    samples: list[dict[str, Any]], shards: np.ndarray, label: pa.DataType
) -> pa.Table:
    nested = {"labels": label, "objects": OBJECT, "decisions": DECISION}
    plain = [{key: value for key, value in row.items() if key not in nested} for row in samples]
    table = pa.Table.from_pylist(plain)
    for column, type_ in nested.items():
        if column in samples[0]:
            values = [sample[column] for sample in samples]
            table = table.append_column(column, pa.array(values, pa.list_(type_)))
    return table.append_column("shard", pa.array(shards))


def _describe_shards(table: pa.Table) -> list[dict[str, Any]]:
    """Digest and number of samples of every shard; the shard's number is not part of the digest."""
    rows = table.drop_columns(["shard"]).to_pylist()
    for row in rows:
        if row.get("decisions", ()) is None:
            del row["decisions"]
    shards = table["shard"].to_numpy()
    starts = np.flatnonzero(np.diff(shards, prepend=-1)).tolist()
    ends = [*starts[1:], len(rows)]
    return [
        {"digest": digest(rows[start:end]), "items": end - start}
        for start, end in zip(starts, ends, strict=True)
    ]


def _category_counts(
    retrieval: pa.Table, samples: list[dict[str, Any]], categories: Sequence[Category]
) -> list[dict[str, Any]]:
    retrieved = Counter(retrieval["category_id"].to_pylist())
    kept = Counter(retrieval.filter(retrieval["kept"])["category_id"].to_pylist())
    masked = Counter(number for sample in samples for number in _shown(sample))
    return [
        {
            "category_id": category.category_id,
            "name": category.name,
            "retrieved": retrieved[category.category_id],
            "kept": kept[category.category_id],
            "dropped": retrieved[category.category_id] - kept[category.category_id],
            "masked": masked[category.category_id],
        }
        for category in categories
    ]


def _shown(sample: dict[str, Any]) -> set[int]:
    """The categories in the sample's label map."""
    if "objects" not in sample:
        return {sample["label"]}
    return {each["category_id"] for each in sample["objects"]} - {0}


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())
