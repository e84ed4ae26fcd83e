"""Folders of synthetic images: an unlabelled corpus with its ground truth, and annotated scenes.

    corpus/
      pictures/000417.jpg …        good images, near-duplicates and broken files, in random order
      truth.json                   the objects of each image, for scoring only

    scenes/
      images/000001.jpg …
      annotations.json             COCO's format for instances

Writing the same again gives the same bytes. There are two worlds: the easy one shows mostly one
object an image on a quiet background (`made_world.scenes.images`), the hard one several among
look-alikes and clutter (`made_world.scenes.hard`), and more near-duplicates, which are harder to
recognise (`made_world.scenes.near_duplicates`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from made_world.drawing.rng import Rng
from made_world.scenes.composing import MadeImage, MadeObject
from made_world.scenes.hard import hard_image
from made_world.scenes.images import corpus_image, scene_image
from made_world.scenes.near_duplicates import WAYS, Way, cropped, near_duplicate
from made_world.things.kinds import KINDS, Sort, sort_of, word_for

Mask = NDArray[np.bool_]

World = Literal["easy", "hard"]

_PLAN_STREAM, _COPY_STREAM = 4, 5
_DUPLICATE_SHARE: Final[dict[World, float]] = {"easy": 0.02, "hard": 0.1}
_COPIES_OF_ONE: Final[dict[World, float]] = {"easy": 1.0, "hard": 1.5}  # on average
_BROKEN_SHARE: Final = 0.001  # of each of the ways
_WAYS_TO_BREAK: Final = ("truncated", "web page", "empty")
_WEB_PAGE: Final = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"
_QUALITY: Final = 92


@dataclass(frozen=True, kw_only=True, eq=False)
class TrueObject:
    """An object that an image shows.

    Attributes:
        kind: what it is.
        mask: bool [h, w]; its visible pixels.
        visible: the share of its pixels that is neither hidden nor outside the image, 0..1; None
            where the truth doesn't say (easy world).
        size: the longer side of its box, hidden parts included, over the image's shorter side; None
            likewise.
    """

    kind: str
    mask: Mask
    visible: float | None = None
    size: float | None = None

    @property
    def word(self) -> str:
        """What it is called, which may be a name of another kind, too."""
        return word_for(self.kind)

    @property
    def sort(self) -> Sort:
        """Whether it has a kind that a vocabulary may name, resembles one, or just lies about."""
        return sort_of(self.kind)


@dataclass(frozen=True, kw_only=True, eq=False)
class CorpusGroundTruth:
    """The ground truth of a synthetic corpus.

    Attributes:
        things: the objects of each image, back to front, by file name; good files only.
        near_duplicates: the file that a near-duplicate was copied from, by file name.
        ways: how it was changed, by file name; empty for an easy world.
        broken: how a file is broken, by file name.
    """

    things: dict[str, tuple[TrueObject, ...]]
    near_duplicates: dict[str, str]
    ways: dict[str, Way]
    broken: dict[str, str]

    @cached_property
    def objects(self) -> dict[str, list[tuple[str, Mask]]]:
        """(kind, visible mask) of each object, without clutter, by file name."""
        return {
            name: [(one.kind, one.mask) for one in shown if one.sort != "clutter"]
            for name, shown in self.things.items()
        }


def write_corpus(
    folder: Path, seed: int, count: int, kinds: Sequence[str] = KINDS, world: World = "easy"
) -> None:
    """Write a corpus of `count` files and its ground truth.

    About 2 % (of a hard world 10 %) are near-duplicates of others and, from 300 files up, at least
    one each is cut off, a web page, and empty. File names don't reveal the content.

    Args:
        folder: to write to.
        seed: of everything random.
        count: files.
        kinds: of objects; a hard world adds look-alikes and clutter.
        world: easy or hard.

    Raises:
        ValueError: `count` is below 1, or a kind is unknown.
    """
    if count < 1:
        raise ValueError(f"A corpus must have at least 1 image, got {count}.")
    target = folder / "pictures"
    target.mkdir(parents=True, exist_ok=True)
    plan = _Plan(seed, count, world)
    corpus = _Corpus(seed, kinds, world, plan.copies)
    truth: dict[str, Any] = {}
    ways: dict[str, Way] = {}
    for number, name in enumerate(plan.names):
        if number in plan.broken:
            (target / name).write_bytes(_broken(plan.broken[number], corpus.image(number)))
            continue
        made = corpus.file(number)
        (target / name).write_bytes(_jpeg(made.image.pixels, made.quality))
        truth[name] = [_described(one, world) for one in made.image.objects]
        if made.way is not None:
            ways[name] = made.way
    document = {
        "seed": seed,
        "kinds": list(kinds),
        "pictures": dict(sorted(truth.items())),
        "near_duplicates": {plan.names[at]: plan.names[of] for at, of in plan.copies.items()},
        "broken": {plan.names[at]: way for at, way in plan.broken.items()},
    }
    if world == "hard":
        document |= {"world": world, "ways": dict(sorted(ways.items()))}
    (folder / "truth.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_ground_truth(folder: Path) -> dict[str, list[tuple[str, Mask]]]:
    """(kind, visible mask bool [h, w]) of each object, without clutter, by file name."""
    return read_corpus_ground_truth(folder).objects


def read_corpus_ground_truth(folder: Path) -> CorpusGroundTruth:
    """The ground truth that `write_corpus` wrote."""
    document = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    things = {
        name: tuple(
            TrueObject(
                kind=each["kind"],
                mask=coco_mask.decode(each["mask"]).astype(np.bool_),
                visible=each.get("visible"),
                size=each.get("size"),
            )
            for each in listed
        )
        for name, listed in document["pictures"].items()
    }
    return CorpusGroundTruth(
        things=things,
        near_duplicates=document["near_duplicates"],
        ways=document.get("ways", {}),
        broken=document["broken"],
    )


def write_scenes(
    folder: Path, seed: int, count: int, kinds: Sequence[str] = KINDS, world: World = "easy"
) -> None:
    """Write scenes with their annotations; the categories are the kinds, with ids from 1.

    Of a hard world, images without a kind are among them; look-alikes and clutter, being of no
    category, are background.

    Raises:
        ValueError: `count` is below 1, or a kind is unknown.
    """
    if count < 1:
        raise ValueError(f"There must be at least 1 scene, got {count}.")
    target = folder / "images"
    target.mkdir(parents=True, exist_ok=True)
    hard = world == "hard"
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        scene = hard_image(seed, number, kinds) if hard else scene_image(seed, number, kinds)
        name = f"{number + 1:06d}.jpg"
        (target / name).write_bytes(_jpeg(scene.pixels, 95))
        height, width = scene.pixels.shape[:2]
        images.append({"id": number + 1, "file_name": name, "height": height, "width": width})
        for one in (each for each in scene.objects if each.kind in kinds):
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

    def __init__(self, seed: int, count: int, world: World) -> None:
        rng = Rng(seed, 0, _PLAN_STREAM)
        self.names = [f"{place:06d}.jpg" for place in rng.permutation(count)]
        each_way = max(1, round(count * _BROKEN_SHARE)) if count >= 300 else 0
        chosen = iter(rng.permutation(count))
        self.broken = {next(chosen): way for way in _WAYS_TO_BREAK for _ in range(each_way)}
        copies = [next(chosen) for _ in range(round(count * _DUPLICATE_SHARE[world]))]
        origins = [next(chosen) for _ in range(ceil(len(copies) / _COPIES_OF_ONE[world]))]
        self.copies = {number: origins[at % len(origins)] for at, number in enumerate(copies)}


@dataclass(frozen=True, kw_only=True, eq=False)
class _File:
    """An image as it is stored: its JPEG's quality, and of a near-duplicate the way."""

    image: MadeImage
    quality: int = _QUALITY
    way: Way | None = None


@dataclass(frozen=True)
class _Corpus:
    """Images of a corpus by number; `copies` are those of near-duplicates and of their origins."""

    seed: int
    kinds: Sequence[str]
    world: World
    copies: Mapping[int, int]

    def image(self, number: int) -> MadeImage:
        make = hard_image if self.world == "hard" else corpus_image
        return make(self.seed, number, self.kinds)

    def file(self, number: int) -> _File:
        if number not in self.copies:
            return _File(image=self.image(number))
        origin = self.image(self.copies[number])
        rng = Rng(self.seed, number, _COPY_STREAM)
        if self.world == "easy":
            return _slightly_changed(rng, origin)
        way = rng.one_of(WAYS)
        copy = near_duplicate(rng, origin, way)
        return _File(image=copy.image, quality=copy.quality, way=way)


def _slightly_changed(rng: Rng, origin: MadeImage) -> _File:
    """A near-duplicate of the easy world."""
    change = rng.one_of(("encoded", "brightened", "cropped"))
    if change == "encoded":
        return _File(image=origin, quality=rng.whole(60, 80))
    if change == "brightened":
        bright = np.clip(origin.pixels * rng.between(1.05, 1.2), 0, 255).astype(np.uint8)
        return _File(image=replace(origin, pixels=bright), quality=90)
    top, bottom, left, right = (rng.whole(1, 4) for _ in range(4))
    return _File(image=cropped(origin, np.s_[top:-bottom, left:-right]))


def _described(one: MadeObject, world: World) -> dict[str, Any]:
    """An object as the ground truth has it."""
    mask = _run_lengths(one.mask)
    if world == "easy":
        return {"kind": one.kind, "mask": mask}
    return {
        "kind": one.kind,
        "word": word_for(one.kind),
        "sort": sort_of(one.kind),
        "visible": round(one.visible, 4),
        "size": round(one.size, 4),
        "mask": mask,
    }


def _broken(way: str, image: MadeImage) -> bytes:
    if way == "truncated":
        data = _jpeg(image.pixels, _QUALITY)
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
