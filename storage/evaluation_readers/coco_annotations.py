"""One image's annotations as COCO's JSON files have them: outlines, run lengths, crowds.

COCO publishes objects and no label maps. The ZUTIS reference (`datasets/coco2017.py`) reads label
maps that its authors made and never published, so that the order in which they painted objects
that overlap is not known. Here it is: crowd regions first, then objects from the largest annotated
area to the smallest (equals in the file's order), so that what lies on top, most often the smaller
object, stays visible. A crowd's pixels are of its category.

Masks are rasterised by pycocotools.
"""

from __future__ import annotations

import io
import json
from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeAlias

import numpy as np

from storage.errors import CorpusError
from storage.evaluation_readers.evaluation_set import InstanceTruth, LabelMap, Rle
from storage.filesystems import display, open_binary, translated_errors
from storage.fingerprints import canonical_json

LEFT_OUT: Final = object()
"""Stands for an annotation of an image that is not wanted."""

# In quotes: Python 3.11 has no array[float] at run time.
Polygons: TypeAlias = "tuple[array[float], ...]"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object as the file has it; its polygons are packed, since there are millions of them."""

    image_id: int
    category_id: int
    is_crowd: bool
    area: float | None
    segmentation: Polygons | dict[str, Any] | None


@dataclass(frozen=True)
class CocoTruth:
    """One image's annotations; masks are rasterised when they are asked for.

    Attributes:
        size: h, w.
        annotations: in the file's order.
        labels_by_id: COCO's `category_id` to label, 1..k, or 0 for a category that is the
            background; shared by all images.
    """

    size: tuple[int, int]
    annotations: tuple[Annotation, ...]
    labels_by_id: Mapping[int, int]

    def instances(self) -> list[InstanceTruth]:
        """The objects and crowds, in the file's order."""
        return [each for each in self._painted() if each.category]

    def labels(self) -> LabelMap:
        """Crowds, then objects by falling area, each painted over what was there before."""
        from pycocotools import mask as coco_mask

        painted = np.zeros(self.size, dtype=np.uint16)
        for truth in sorted(self._painted(), key=lambda truth: (not truth.is_crowd, -truth.area)):
            painted[coco_mask.decode(truth.rle) != 0] = truth.category
        return painted

    def digest(self) -> str:
        """sha256 of size, labels, crowd flags, areas and outlines."""
        facts = [
            [self.labels_by_id[each.category_id], each.is_crowd, each.area, _plain(each)]
            for each in self.annotations
        ]
        return sha256(canonical_json([self.size, facts]).encode()).hexdigest()

    def _painted(self) -> list[InstanceTruth]:
        """All that the label map is made of: objects, crowds, and annotated background."""
        return [self._instance(annotation) for annotation in self.annotations]

    def _instance(self, annotation: Annotation) -> InstanceTruth:
        from pycocotools import mask as coco_mask

        rle = _rle(annotation, self.size)
        area = annotation.area
        return InstanceTruth(
            category=self.labels_by_id[annotation.category_id],
            rle=rle,
            is_crowd=annotation.is_crowd,
            area=float(coco_mask.area(rle)) if area is None else area,
        )


def parse_annotations(uri: str, wanted: Collection[int] | None) -> Any:
    """The JSON of a file in COCO's format.

    Annotations are packed while they are parsed: those of COCO train2014 take gigabytes as Python
    objects, of which COCO-20K needs a quarter.

    Args:
        uri: of the file, local or remote.
        wanted: ids of the images whose annotations are kept; None for all.

    Returns:
        The document; objects with `image_id` and `category_id` are `Annotation`s, or LEFT_OUT.
        Those whose ids are no numbers stay mappings.

    Raises:
        CorpusError: not valid JSON in UTF-8.
        StorageError: the file can't be read.
    """

    def reduce(value: dict[str, Any]) -> Any:
        # Called for each object as soon as it is complete, innermost first.
        if "image_id" not in value or "category_id" not in value:
            return value
        if wanted is not None and value["image_id"] not in wanted:
            return LEFT_OUT
        return _annotation(value)

    with open_binary(uri) as file, translated_errors("read", uri):
        try:
            text = io.TextIOWrapper(file, "utf-8-sig")
            return json.load(text, object_hook=reduce, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:  # also where it is not UTF-8
            raise CorpusError(
                f"The file {display(uri)} is not valid JSON ({error}); download or write it again."
            ) from error


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _annotation(value: dict[str, Any]) -> Any:
    if not (_is_number(value["image_id"]) and _is_number(value["category_id"])):
        return value
    area = value.get("area")
    return Annotation(
        image_id=value["image_id"],
        category_id=value["category_id"],
        is_crowd=bool(value.get("iscrowd", 0)),
        area=float(area) if isinstance(area, int | float) else None,
        segmentation=_packed(value.get("segmentation")),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _packed(segmentation: Any) -> Polygons | dict[str, Any] | None:
    """Polygons as arrays of x, y, …; run lengths as they are; None for anything else."""
    match segmentation:
        case {"counts": list() | str(), "size": [int(), int()]}:
            return dict(segmentation)
        case list() if segmentation:
            try:
                polygons = [array("d", polygon) for polygon in segmentation]
            except TypeError:
                return None
            # pycocotools takes a polygon of two points for a box.
            return tuple(each for each in polygons if len(each) >= 6 and len(each) % 2 == 0)
        case _:
            return None


def _plain(annotation: Annotation) -> Any:
    """The segmentation as JSON has it."""
    if isinstance(annotation.segmentation, dict):
        return annotation.segmentation
    return [polygon.tolist() for polygon in annotation.segmentation or ()]


def _rle(annotation: Annotation, size: tuple[int, int]) -> Rle:
    """The annotation's mask, whichever of COCO's three encodings it is in."""
    from pycocotools import mask as coco_mask

    height, width = size
    match annotation.segmentation:
        case {"counts": runs, "size": stated}:
            fits = stated == [height, width]
            if not fits or (isinstance(runs, list) and sum(runs) != height * width):
                raise CorpusError(
                    f"The run lengths of an annotation of image {annotation.image_id} don't make"
                    f" up {height} x {width} pixels; write the annotations again."
                )
            if isinstance(runs, str):
                return {"size": [height, width], "counts": runs}
            encoded = coco_mask.frPyObjects(annotation.segmentation, height, width)
        case tuple(polygons) if polygons:
            outlines = [polygon.tolist() for polygon in polygons]
            encoded = coco_mask.merge(coco_mask.frPyObjects(outlines, height, width))
        case _:  # nothing but polygons without an area
            encoded = coco_mask.encode(np.zeros(size, dtype=np.uint8, order="F"))
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}
