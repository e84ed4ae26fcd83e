"""COCO's annotations of one image: polygons, run lengths (RLE) and crowds.

COCO publishes objects and no label maps. The ZUTIS reference (`datasets/coco2017.py`) reads label
maps that its authors made and never published, so that the order in which they painted objects
that overlap is not known. The order here is: crowd regions first, then objects from the largest
annotated area to the smallest (equals in the file's order), so that the upper object, most often
the smaller one, stays visible. A crowd's pixels are of its category.

Masks are rasterised by pycocotools.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storage.annotations.evaluation_set import InstanceAnnotation, LabelMap, Rle
from storage.artifacts.fingerprints import canonical_json
from storage.errors.exceptions import CorpusError
from storage.files.filesystems import display
from storage.files.json_files import load_json
from storage.files.user_files import ANNOTATIONS
from storage.images.masks import runs_of

LEFT_OUT: Final = object()
"""Placeholder for the annotations of images that are not wanted."""

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
    annotation_id: Any = None
    fault: str = ""
    """Why it can't be used, as far as that shows without the image's size; empty if it can."""
    short_parts: int = 0
    """Outlines of fewer than three corners, left out beside whole ones."""


@dataclass(frozen=True)
class CocoGroundTruth:
    """One image's annotations; masks are rasterised on demand.

    Attributes:
        size: h, w.
        annotations: in the file's order.
        labels_by_id: COCO's `category_id` to label, 1..k, or 0 for a category that is the
            background; shared by all images.
    """

    size: tuple[int, int]
    annotations: tuple[Annotation, ...]
    labels_by_id: Mapping[int, int]

    def instances(self) -> list[InstanceAnnotation]:
        """The objects and crowds, in the file's order."""
        return [each for each in self._painted() if each.category]

    def labels(self) -> LabelMap:
        """Crowds, then objects by falling area, each painted over those before."""
        from pycocotools import mask as coco_mask

        painted = np.zeros(self.size, dtype=np.uint16)
        for one in sorted(self._painted(), key=lambda one: (not one.is_crowd, -one.area)):
            painted[coco_mask.decode(one.rle) != 0] = one.category
        return painted

    def digest(self) -> str:
        """sha256 of size, labels, crowd flags, areas and outlines."""
        facts = [
            [self.labels_by_id[each.category_id], each.is_crowd, each.area, _plain(each)]
            for each in self.annotations
        ]
        return sha256(canonical_json([self.size, facts]).encode()).hexdigest()

    def _painted(self) -> list[InstanceAnnotation]:
        """Everything in the label map: objects, crowds, and annotated background."""
        return [self._instance(annotation) for annotation in self.annotations]

    def _instance(self, annotation: Annotation) -> InstanceAnnotation:
        from pycocotools import mask as coco_mask

        rle = _rle(annotation, self.size)
        area = annotation.area
        return InstanceAnnotation(
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

    try:
        return load_json(uri, ANNOTATIONS, object_hook=reduce, parse_constant=_refuse_constant)
    except ValueError as error:
        raise CorpusError(
            f"The file {display(uri)} is not valid JSON ({error}); download or write it again."
        ) from error


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _annotation(value: dict[str, Any]) -> Any:
    if not (_is_number(value["image_id"]) and _is_number(value["category_id"])):
        return value
    area = value.get("area")
    packed, short = _packed(value.get("segmentation"))
    return Annotation(
        image_id=value["image_id"],
        category_id=value["category_id"],
        is_crowd=value.get("iscrowd") == 1,
        area=float(area) if isinstance(area, int | float) else None,
        segmentation=packed,
        annotation_id=value.get("id"),
        fault=_fault_of_value(value, packed, short),
        short_parts=short,
    )


def _fault_of_value(
    value: dict[str, Any], packed: Polygons | dict[str, Any] | None, short: int
) -> str:
    crowd = value.get("iscrowd")
    # A word such as "0" would be a crowd.
    if crowd is not None and not (isinstance(crowd, int | float) and crowd in (0, 1)):
        return f"`iscrowd` is {crowd!r} and has to be 0 or 1"
    if packed is None:
        return "there are no polygons or run lengths as `segmentation`"
    if not packed and short:  # pycocotools would take two corners for a box
        return "its outlines have fewer than three corners, or half a corner"
    return ""


def fault_in(annotation: Annotation, size: tuple[int, int]) -> str:
    """Why an annotation of an image of h, w can't be used; empty if it can."""
    if annotation.fault:
        return annotation.fault
    if isinstance(annotation.segmentation, dict):
        runs = runs_of(annotation.segmentation["counts"])
        fits = annotation.segmentation["size"] == [*size] and sum(runs) == math.prod(size)
        if not fits or min(runs) < 0:
            return f"its run lengths don't make up {size[0]} x {size[1]} pixels"
        empty = sum(runs[1::2]) == 0
    else:
        empty = _is_empty(annotation, size)
    # Specks of less than a pixel are in all data; what has an area should be seen.
    if empty and annotation.area is not None and annotation.area >= 1:
        return f"it covers no pixel of the image beside a stated area of {annotation.area:g}"
    return ""


def _is_empty(annotation: Annotation, size: tuple[int, int]) -> bool:
    """Whether polygons cover no pixel; rasterised only where that isn't plain."""
    from pycocotools import mask as coco_mask

    polygons = annotation.segmentation
    if not isinstance(polygons, tuple):
        return True
    if any(_surely_covers(np.frombuffer(each).reshape(-1, 2), size) for each in polygons):
        return False
    return int(coco_mask.area(_rle(annotation, size))) == 0


def _surely_covers(corners: NDArray[np.float64], size: tuple[int, int]) -> bool:
    """A polygon [n, 2] of x, y that lies in the image and is no sliver."""
    inside = (corners >= 0).all() and (corners <= size[::-1]).all()
    x, y = (corners - corners[0]).T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return bool(inside and area >= max(16.0, 4 * sum(size) ** 0.5))


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _packed(segmentation: Any) -> tuple[Polygons | dict[str, Any] | None, int]:
    """Polygons as arrays of x, y, …; run lengths as they are; None for anything else.

    And how many polygons of fewer than three corners, or half a corner, are left out.
    """
    match segmentation:
        case {"counts": list() | str(), "size": [int(), int()]}:
            return dict(segmentation), 0
        case list() if segmentation:
            try:
                polygons = [array("d", polygon) for polygon in segmentation]
            except TypeError:
                return None, 0
            # pycocotools takes a polygon of two points for a box.
            whole = tuple(each for each in polygons if len(each) >= 6 and len(each) % 2 == 0)
            return whole, len(polygons) - len(whole)
        case _:
            return None, 0


def _plain(annotation: Annotation) -> Any:
    """The segmentation as JSON has it."""
    if isinstance(annotation.segmentation, dict):
        return annotation.segmentation
    return [polygon.tolist() for polygon in annotation.segmentation or ()]


def _rle(annotation: Annotation, size: tuple[int, int]) -> Rle:
    """The annotation's mask, from any of COCO's three encodings."""
    from pycocotools import mask as coco_mask

    height, width = size
    match annotation.segmentation:
        case {"counts": runs}:  # `fault_in` has checked them
            if isinstance(runs, str):
                return {"size": [height, width], "counts": runs}
            encoded = coco_mask.frPyObjects(annotation.segmentation, height, width)
        case tuple(polygons) if polygons:
            outlines = [polygon.tolist() for polygon in polygons]
            encoded = coco_mask.merge(coco_mask.frPyObjects(outlines, height, width))
        case _:  # nothing but polygons without an area
            encoded = coco_mask.encode(np.zeros(size, dtype=np.uint8, order="F"))
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}
