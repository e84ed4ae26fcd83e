"""The stage `pack_shards`: one shard with original images, label maps and metadata."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.compute as pc
from PIL import Image

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.images.decoding import decoded
from storage.images.masks import mask_id, mask_pixels
from storage.images.memory_budget import hold_for_file
from storage.images.pillow_warnings import noted_warnings
from storage.images.records import read_parquet, write_parquet
from storage.shards.writing import (
    Sample,
    SeveralObjects,
    ShardWriter,
    encode_jpeg,
    ignore_label,
)
from tasks.indexing.source_images import read_source_image
from tasks.packing.decided_labels import corrected_mask, described, with_counts
from tasks.packing.object_labels import painted
from tasks.stage.contract import PartOfPlan, Progress, plan_parts
from tasks.stage.layout import MASKS, SAMPLES, SHARD, SHARD_INDEX
from tasks.workers.reading_ahead import in_order

NAME = "pack_shards"
VERSION = 1
_ORIENTATION_TAG = 0x0112
_MASK_FACTS = ["objectness", "area", "border_contact", "components", "refiner_agreement"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the packing.

    Attributes:
        clip: identity of the CLIP weights (architecture and digest), for the samples' JSON.
        selfmask: identity of the SelfMask weights, likewise.
        largest_label: the vocabulary's largest category_id, which determines the label maps' depth.
        bit_depth: as for the masks. Not part of this key: the plan's parts have the masks' keys.
        threads: threads that read and encode. Not part of the key.
    """

    clip: str
    selfmask: str
    largest_label: int
    bit_depth: int = 0
    threads: int = 4

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            stage=NAME,
            version=VERSION,
            config={
                "clip": self.clip,
                "selfmask": self.selfmask,
                "ignore_label": ignore_label(self.largest_label),
            },
        )


def locate(config: Config, inputs: PartOfPlan, store: ArtifactStore) -> ArtifactRef:
    part = plan_parts(store.get(inputs.plan))[inputs.part]
    return ArtifactRef(NAME, config.recipe.key_of_digest(part["digest"]))


def run(config: Config, inputs: PartOfPlan, store: ArtifactStore, progress: Progress) -> Artifact:
    """Write one shard: `shard.tar` and `index.parquet` (key and byte offsets of its samples).

    Raises:
        CorpusError: an image is missing or has changed since it was indexed.
    """
    samples = _samples_of_shard(store.get(inputs.plan), inputs.part)
    masks = _masks(samples, store)
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(SHARD) as file:
            writer = ShardWriter(file, config.largest_label)
            for sample in _in_order(samples, masks, config):
                writer.write(sample)
                progress.advance(1)
            index = writer.close()
        with attempt.create(SHARD_INDEX) as file:
            write_parquet(index, file)
        masked_by = sorted({sample["masked"] for sample in samples})
        return store.publish(
            attempt,
            config.recipe,
            inputs={"plan": inputs.plan.key, "masks": masked_by},
            counts={"samples": len(samples)},
        )


def _samples_of_shard(plan: Artifact, shard: int) -> list[dict[str, Any]]:
    with plan.open(SAMPLES) as file:
        table = read_parquet(file)
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["shard"], shard)).to_pylist()
    return rows


_MaskRows = dict[str, list[dict[str, Any]]]


def _masks(samples: list[dict[str, Any]], store: ArtifactStore) -> _MaskRows:
    """The samples' rows of the mask tables, by image_id."""
    wanted: dict[str, set[str]] = {}
    for sample in samples:
        wanted.setdefault(sample["masked"], set()).add(sample["image_id"])
    rows: _MaskRows = {}
    for key, image_ids in sorted(wanted.items()):
        with store.get(ArtifactRef("make_masks", key)).open(MASKS) as file:
            table = read_parquet(file)
        for row in table.to_pylist():
            if row["image_id"] in image_ids:
                rows.setdefault(row["image_id"], []).append(row)
    return rows


def _in_order(samples: list[dict[str, Any]], masks: _MaskRows, config: Config) -> Iterator[Sample]:
    """Samples in the order of the plan, made ahead in threads."""
    with ThreadPoolExecutor(config.threads, thread_name_prefix="pack") as pool:
        try:
            futures = (
                (
                    pool.submit(_make_sample, row, masks[row["image_id"]], config),
                    row["height"] * row["width"] + max(0, row["length"]),
                )
                for row in samples
            )
            yield from in_order(futures, ahead=4 * config.threads)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _make_sample(row: dict[str, Any], masks: list[dict[str, Any]], config: Config) -> Sample:
    decisions = row.get("decisions") or []
    told = {"decisions": [described(each) for each in decisions]} if decisions else {}
    if "objects" not in row:
        [mask] = masks
        return _sample(row, corrected_mask(mask, decisions), config, told)
    by_id = {
        mask_id(mask["image_id"], mask["height"], mask["width"], mask["counts"]): mask
        for mask in masks
    }
    for each in decisions:
        if each["counts"]:
            by_id[each["to_mask_id"]] = with_counts(by_id[each["mask_id"]], each["counts"])
    objects = [(each, by_id[each["mask_id"]]) for each in row["objects"]]
    first = next(mask for each, mask in objects if each["category_id"] == row["label"])
    listed = [_object(each, mask) for each, mask in objects]
    sample = _sample(row, first, config, {"objects": listed, **told})
    label_map = painted(
        ((each["category_id"], mask_pixels(mask)) for each, mask in objects),
        sample.mask.shape,
        ignore_label(config.largest_label),
    )
    labels = tuple(each["category_id"] for each, _ in objects if each["category_id"])
    return replace(sample, several=SeveralObjects(label_map, labels))


def _object(each: dict[str, Any], mask: dict[str, Any]) -> dict[str, Any]:
    """An object as the JSON has it; without a category where its pixels are to be ignored."""
    known = {name: value for name, value in each.items() if value is not None}
    return known | _facts_of_mask(mask)


def _facts_of_mask(mask: dict[str, Any]) -> dict[str, Any]:
    return {
        "mask": {"size": [mask["height"], mask["width"]], "counts": mask["counts"]},
        **{name: mask[name] for name in _MASK_FACTS},
    }


def _sample(
    row: dict[str, Any],
    mask: dict[str, Any],
    config: Config,
    more: Mapping[str, Any] | None = None,
) -> Sample:
    with hold_for_file(row["length"]):
        jpeg, original = _as_jpeg(read_source_image(row), row, config.bit_depth)
    facts = {
        "image_id": row["image_id"],
        **_source(row),
        "member": row["member"],
        "offset": row["offset"],
        "length": row["length"],
        "height": row["height"],
        "width": row["width"],
        "original_bytes": original,
        "label": row["label"],
        "ignore_label": ignore_label(config.largest_label),
        "categories": row["labels"],
        **_facts_of_mask(mask),
        **(more or {}),
        "weights": {"clip": config.clip, "selfmask": config.selfmask},
        "artifacts": {"embed_images": row["embedded"], "make_masks": row["masked"]},
    }
    return Sample(row["image_id"], jpeg, mask_pixels(mask), row["label"], facts)


def _source(row: dict[str, Any]) -> dict[str, str]:
    """The image's source; `uri` is relative to `root` where the plan has one."""
    if "path" not in row:
        return {"uri": row["uri"]}
    return {"root": row["root"], "uri": row["path"]}


def _as_jpeg(data: bytes, row: dict[str, Any], bit_depth: int) -> tuple[bytes, bool]:
    """The image as a JPEG stored upright, like the mask, and whether the bytes are the source's
    own: those of an upright RGB or grey JPEG are kept."""
    if row["format"] == "JPEG" and not row["conversion"] and _is_upright(data):
        return data, True
    with decoded(data, bit_depth=bit_depth) as found:
        return encode_jpeg(found.image), False


def _is_upright(data: bytes) -> bool:
    try:
        with noted_warnings(), Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return bool(image.getexif().get(_ORIENTATION_TAG, 1) == 1)
    except Exception:  # damaged EXIF: decode() used the image as stored, and so do readers
        return True
