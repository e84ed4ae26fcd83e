"""Folders of synthetic images: an unlabelled corpus with its ground truth, and annotated scenes.

    corpus/
      pictures/000417.jpg …        good images, near-duplicates and broken files, in random order
      truth.json                   the objects of each image, for scoring only

    scenes/
      images/000001.jpg …
      annotations.json             COCO's format for instances

Writing the same again gives the same bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from made_world.drawing.rng import Rng
from made_world.scenes.images import corpus_image, scene_image
from made_world.things.kinds import KINDS

Mask = NDArray[np.bool_]

_PLAN_STREAM, _COPY_STREAM = 4, 5
_DUPLICATE_SHARE: Final = 0.02
_BROKEN_SHARE: Final = 0.001  # of each of the ways
_WAYS_TO_BREAK: Final = ("truncated", "web page", "empty")
_WEB_PAGE: Final = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"


@dataclass(frozen=True, kw_only=True, eq=False)
class CorpusGroundTruth:
    """The ground truth of a synthetic corpus.

    Attributes:
        objects: (kind, visible mask) of each object, back to front, by file name; good files only.
        near_duplicates: the file that a near-duplicate was copied from, by file name.
        broken: how a file is broken, by file name.
    """

    objects: dict[str, list[tuple[str, Mask]]]
    near_duplicates: dict[str, str]
    broken: dict[str, str]


def write_corpus(folder: Path, seed: int, count: int, kinds: Sequence[str] = KINDS) -> None:
    """Write a corpus of `count` files and its ground truth.

    About 2 % are near-duplicates of others and, from 300 files up, at least one each is cut off,
    a web page, and empty. File names don't reveal the content.

    Raises:
        ValueError: `count` is below 1, or a kind is unknown.
    """
    if count < 1:
        raise ValueError(f"A corpus must have at least 1 image, got {count}.")
    target = folder / "pictures"
    target.mkdir(parents=True, exist_ok=True)
    plan = _Plan(seed, count)
    truth: dict[str, Any] = {}
    for number, name in enumerate(plan.names):
        if number in plan.broken:
            (target / name).write_bytes(_broken(plan.broken[number], seed, number, kinds))
            continue
        data, objects = _copied(seed, number, plan, kinds)
        (target / name).write_bytes(data)
        truth[name] = [{"kind": kind, "mask": _run_lengths(mask)} for kind, mask in objects]
    document = {
        "seed": seed,
        "kinds": list(kinds),
        "pictures": dict(sorted(truth.items())),
        "near_duplicates": {plan.names[at]: plan.names[of] for at, of in plan.copies.items()},
        "broken": {plan.names[at]: way for at, way in plan.broken.items()},
    }
    (folder / "truth.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_ground_truth(folder: Path) -> dict[str, list[tuple[str, Mask]]]:
    """(kind, visible mask bool [h, w]) of each object, by file name, as `write_corpus` wrote it."""
    return read_corpus_ground_truth(folder).objects


def read_corpus_ground_truth(folder: Path) -> CorpusGroundTruth:
    """The ground truth that `write_corpus` wrote."""
    document = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    objects = {
        name: [(each["kind"], coco_mask.decode(each["mask"]).astype(np.bool_)) for each in listed]
        for name, listed in document["pictures"].items()
    }
    return CorpusGroundTruth(
        objects=objects,
        near_duplicates=document["near_duplicates"],
        broken=document["broken"],
    )


def write_scenes(folder: Path, seed: int, count: int, kinds: Sequence[str] = KINDS) -> None:
    """Write scenes with their annotations; the categories are the kinds, with ids from 1.

    Raises:
        ValueError: `count` is below 1, or a kind is unknown.
    """
    if count < 1:
        raise ValueError(f"There must be at least 1 scene, got {count}.")
    target = folder / "images"
    target.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        scene, name = scene_image(seed, number, kinds), f"{number + 1:06d}.jpg"
        (target / name).write_bytes(_jpeg(scene.pixels, 95))
        height, width = scene.pixels.shape[:2]
        images.append({"id": number + 1, "file_name": name, "height": height, "width": width})
        for one in scene.objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": list(kinds).index(one.kind) + 1,
                    "segmentation": _run_lengths(one.mask),
                    "area": int(one.mask.sum()),
                    "bbox": _box(one.mask),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": at, "name": kind} for at, kind in enumerate(kinds, 1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document) + "\n", encoding="utf-8")


class _Plan:
    """The good files, the copies and the broken files of a corpus, by number."""

    def __init__(self, seed: int, count: int) -> None:
        rng = Rng(seed, 0, _PLAN_STREAM)
        self.names = [f"{place:06d}.jpg" for place in rng.permutation(count)]
        each_way = max(1, round(count * _BROKEN_SHARE)) if count >= 300 else 0
        chosen = iter(rng.permutation(count))
        self.broken = {next(chosen): way for way in _WAYS_TO_BREAK for _ in range(each_way)}
        copies = [next(chosen) for _ in range(round(count * _DUPLICATE_SHARE))]
        self.copies = {number: next(chosen) for number in copies}


def _copied(
    seed: int, number: int, plan: _Plan, kinds: Sequence[str]
) -> tuple[bytes, list[tuple[str, Mask]]]:
    """A file's bytes and objects; a near-duplicate's are changed a little from its origin's."""
    image = corpus_image(seed, plan.copies.get(number, number), kinds)
    objects = [(one.kind, one.mask) for one in image.objects]
    if number not in plan.copies:
        return _jpeg(image.pixels, 92), objects
    rng = Rng(seed, number, _COPY_STREAM)
    change = rng.one_of(("encoded", "brightened", "cropped"))
    if change == "encoded":
        return _jpeg(image.pixels, rng.whole(60, 80)), objects
    if change == "brightened":
        bright = np.clip(image.pixels * rng.between(1.05, 1.2), 0, 255).astype(np.uint8)
        return _jpeg(bright, 90), objects
    top, bottom, left, right = (rng.whole(1, 4) for _ in range(4))
    crop = np.s_[top:-bottom, left:-right]
    kept = [(kind, mask[crop]) for kind, mask in objects if mask[crop].any()]
    return _jpeg(image.pixels[crop], 92), kept


def _broken(way: str, seed: int, number: int, kinds: Sequence[str]) -> bytes:
    if way == "truncated":
        data = _jpeg(corpus_image(seed, number, kinds).pixels, 92)
        return data[: len(data) * 2 // 5]
    return _WEB_PAGE if way == "web page" else b""


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "JPEG", quality=quality)
    return target.getvalue()


def _run_lengths(mask: Mask) -> dict[str, Any]:
    """COCO's compressed run lengths, with the counts as text."""
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def _box(mask: Mask) -> list[int]:
    """[left, top, width, height]."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
