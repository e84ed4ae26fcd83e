"""Corrected files of CVAT: XML "CVAT for images 1.1", with polygons and masks.

The file is read piece by piece, and may not declare entities.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

import numpy as np

from storage.corrections.corrected import (
    BAD_MASK,
    NO_MASK,
    CorrectedFile,
    CorrectedImage,
    CorrectedObject,
    Unusable,
    checked_size,
    drawn_mask,
    polygon_mask,
)
from storage.decisions.decision import DrawnMask

_SHAPES: Final = ("polygon", "mask", "box", "polyline", "points", "ellipse", "cuboid", "skeleton")
_LONGEST_NUMBER: Final = 9

_Attributes = dict[str, str]


def read_cvat(chunks: Iterable[bytes]) -> CorrectedFile:
    """The images and objects of a file.

    Polygons of one label and group are one object.

    Raises:
        ValueError: it is no such file; the text says why, in the middle of a sentence.
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.begin
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        for chunk in chunks:
            parser.Parse(chunk, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise ValueError(f"it is no XML: {error}") from error
    if not reader.is_cvat:
        raise ValueError("it is XML of another kind than CVAT's for images, version 1.1")
    return reader.found


def _refuse_doctype(*_: object) -> None:
    raise ValueError("it declares a document type, which CVAT's files don't")


@dataclass
class _Reader:
    """Takes elements as they come."""

    found: CorrectedFile = field(default_factory=CorrectedFile)
    is_cvat: bool = False
    _depth: int = 0
    _image: _Attributes | None = None
    _shapes: list[tuple[str, _Attributes]] = field(default_factory=list)

    def begin(self, name: str, attributes: _Attributes) -> None:
        if self._depth == 0:
            self.is_cvat = name == "annotations"
        self._depth += 1
        if name == "image":
            self._image, self._shapes = attributes, []
        elif name in _SHAPES and self._image is not None:
            self._shapes.append((name, attributes))

    def end(self, name: str) -> None:
        self._depth -= 1
        if name != "image" or self._image is None:
            return
        objects, is_whole = [], True
        for shapes in _grouped(self._shapes):
            try:
                objects.append(_object(shapes, self._image))
            except Unusable as unusable:
                self.found.left_out[unusable.reason] += 1
                is_whole = False
        names = tuple(filter(None, (self._image.get("name", ""),)))
        self.found.images.append(CorrectedImage(names, tuple(objects), is_whole))
        self._image = None


_Shapes = list[tuple[str, _Attributes]]


def _grouped(shapes: _Shapes) -> list[_Shapes]:
    groups: dict[tuple[str, ...], _Shapes] = {}
    for number, (kind, attributes) in enumerate(shapes):
        group = attributes.get("group_id", "")
        is_grouped = kind == "polygon" and group not in ("", "0")
        key = ("group", attributes.get("label", ""), group) if is_grouped else ("own", f"{number}")
        groups.setdefault(key, []).append((kind, attributes))
    return list(groups.values())


def _object(shapes: _Shapes, image: _Attributes) -> CorrectedObject:
    height, width = checked_size(_int(image.get("height")), _int(image.get("width")))
    kind, first = shapes[0]
    label = first.get("label", "")
    if not label:
        raise Unusable(BAD_MASK)
    if kind == "polygon":
        polygons = [_corners(attributes.get("points", "")) for _, attributes in shapes]
        return CorrectedObject(label, polygon_mask(polygons, height, width))
    if kind == "mask":
        return CorrectedObject(label, _mask(first, height, width))
    raise Unusable(NO_MASK)


def _corners(points: str) -> list[float]:
    """`x,y;x,y;…` as numbers."""
    try:
        return [float(number) for pair in points.split(";") for number in _pair(pair)]
    except ValueError as error:
        raise Unusable(BAD_MASK) from error


def _pair(text: str) -> tuple[str, str]:
    x, y = text.split(",")
    return x, y


def _mask(attributes: _Attributes, height: int, width: int) -> DrawnMask:
    """Run lengths, the background's first, of a box of the image."""
    left, top, columns, rows = (
        _int(attributes.get(name)) for name in ("left", "top", "width", "height")
    )
    runs = np.array([_int(run) for run in attributes.get("rle", "").split(",")], dtype=np.int64)
    fits = min(left, top) >= 0 and 0 < columns <= width - left and 0 < rows <= height - top
    if not fits or runs.min() < 0 or runs.max() > rows * columns or runs.sum() != rows * columns:
        raise Unusable(BAD_MASK)
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(rows, columns)
    pixels = np.zeros((height, width), dtype=np.bool_)
    pixels[top : top + rows, left : left + columns] = inside
    return drawn_mask(pixels)


def _int(text: str | None) -> int:
    try:
        return int(text or "") if len(text or "") <= _LONGEST_NUMBER else -1
    except ValueError as error:
        raise Unusable(BAD_MASK) from error
