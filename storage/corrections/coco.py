"""Corrected files in COCO's format: polygons and run lengths."""

from __future__ import annotations

from typing import Any

from storage.annotations.coco_annotations import Annotation, CocoGroundTruth, fault_in
from storage.corrections.corrected import (
    BAD_MASK,
    EMPTY_MASK,
    NO_MASK,
    CorrectedFile,
    CorrectedImage,
    CorrectedObject,
    Unusable,
    checked_size,
)
from storage.decisions.decision import DrawnMask
from storage.files.json_files import is_text
from storage.images.masks import runs_of


def is_coco(document: Any) -> bool:
    """Whether a JSON file's values are COCO's."""
    return isinstance(document, dict) and all(
        isinstance(document.get(name), list) for name in ("images", "annotations", "categories")
    )


def read_coco(document: Any) -> CorrectedFile:
    """The images and objects of a document that `is_coco`, parsed by `parse_annotations`."""
    found = CorrectedFile()
    names = {
        row.get("id"): row["name"]
        for row in document["categories"]
        if isinstance(row, dict) and is_text(row.get("name")) and _is_id(row.get("id"))
    }
    by_image: dict[Any, list[Annotation]] = {}
    for each in document["annotations"]:
        if isinstance(each, Annotation):
            by_image.setdefault(each.image_id, []).append(each)
        else:
            found.left_out[NO_MASK] += 1
    for row in document["images"]:
        if not isinstance(row, dict) or not _is_id(row.get("id")):
            continue
        objects, is_whole = [], True
        for annotation in by_image.pop(row["id"], ()):
            try:
                objects.append(_object(annotation, row, names))
            except Unusable as unusable:
                found.left_out[unusable.reason] += 1
                is_whole = False
        called = [row.get(key) for key in ("image_id", "sha256", "file_name", "coco_url")]
        calls = tuple(name for name in called if name and is_text(name))
        found.images.append(CorrectedImage(calls, tuple(objects), is_whole))
    found.left_out[BAD_MASK] += sum(map(len, by_image.values()))  # of images that are not listed
    return found


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _object(annotation: Annotation, row: dict[str, Any], names: dict[Any, str]) -> CorrectedObject:
    name = names.get(annotation.category_id)
    size = checked_size(row.get("height"), row.get("width"))
    if annotation.segmentation is None:
        raise Unusable(NO_MASK)
    if not name or fault_in(annotation, size):
        raise Unusable(BAD_MASK)
    [found] = CocoGroundTruth(size, (annotation,), {annotation.category_id: 1}).instances()
    counts = found.rle["counts"]
    if not sum(runs_of(counts)[1::2]):
        raise Unusable(EMPTY_MASK)
    return CorrectedObject(name, DrawnMask(*size, counts))
