"""Corrected files of Label Studio: its JSON, with brushes and polygons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

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
from storage.files.json_files import is_text

_CHANNELS: Final = 4  # red, green, blue, and alpha, which is the mask

_Row = dict[str, Any]


def is_label_studio(document: Any) -> bool:
    """Whether a JSON file's values are Label Studio's tasks."""
    return (
        isinstance(document, list)
        and bool(document)
        and all(
            isinstance(task, dict) and isinstance(task.get("annotations"), list)
            for task in document
        )
    )


def read_label_studio(document: Any) -> CorrectedFile:
    """The images and objects of a document that `is_label_studio`: of each task the annotation that
    was changed last and not cancelled. Predictions, which nobody has confirmed, are passed over,
    and so are tasks that nobody has annotated."""
    found = CorrectedFile()
    for task in document:
        done = [
            each for each in task["annotations"]
            if isinstance(each, dict) and not each.get("was_cancelled")
        ]  # fmt: skip
        if done:
            results = max(reversed(done), key=_changed).get("result")
            unusable = found.left_out.total()
            objects = tuple(_objects(results if isinstance(results, list) else [], found))
            is_whole = found.left_out.total() == unusable
            found.images.append(CorrectedImage(tuple(_names(task)), objects, is_whole))
    return found


def _changed(annotation: _Row) -> str:
    """When an annotation was changed: times in ISO's form sort as texts."""
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _names(task: _Row) -> Iterator[str]:
    """What the task calls its image."""
    places = [task.get("meta"), task.get("data")]
    values = [value for place in places if isinstance(place, dict) for value in place.values()]
    yield from (value for value in [*values, task.get("file_upload")] if value and is_text(value))


def _objects(results: list[Any], found: CorrectedFile) -> Iterator[CorrectedObject]:
    """One a region; the parts of a result, shape and label, may stand apart under one id."""
    regions: dict[Any, list[_Row]] = {}
    for number, result in enumerate(results):
        if isinstance(result, dict) and isinstance(result.get("value"), dict):
            name = result.get("id")
            regions.setdefault(name if is_text(name) else number, []).append(result)
    for parts in regions.values():
        try:
            label = _label(parts)
            if label:
                yield CorrectedObject(label, _mask(parts))
        except Unusable as unusable:
            found.left_out[unusable.reason] += 1


def _label(parts: list[_Row]) -> str:
    """The label of a region; empty of results that are none, such as a choice for the image."""
    for part in parts:
        for kind in ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels", "labels"):
            names = part["value"].get(kind)
            if isinstance(names, list) and names and is_text(names[0]) and names[0]:
                return str(names[0])
    return ""


def _mask(parts: list[_Row]) -> DrawnMask:
    for part in parts:
        value = part["value"]
        if "rle" in value:
            height, width = _size(part)
            return drawn_mask(brush_pixels(value["rle"], height, width))
        if "points" in value:
            height, width = _size(part)
            return polygon_mask([_corners(value["points"], height, width)], height, width)
    raise Unusable(NO_MASK)


def _size(part: _Row) -> tuple[int, int]:
    return checked_size(part.get("original_height"), part.get("original_width"))


def _corners(points: Any, height: int, width: int) -> list[float]:
    """Corners in per cent of the image's sides, as x, y, … in pixels."""
    try:
        corners = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise Unusable(BAD_MASK) from error
    if corners.ndim != 2 or corners.shape[1] != 2:
        raise Unusable(BAD_MASK)
    flat: list[float] = (corners * (width / 100, height / 100)).ravel().tolist()
    return flat


def brush_pixels(encoded: Any, height: int, width: int) -> npt.NDArray[np.bool_]:
    """The mask of a brush, bool [height, width].

    Args:
        encoded: bytes of a stream of bits: the number of values (32 bits), the bits of a value
            less one (5), the bits of four lengths less one (4 each); then, until all values are
            there, whether one value is repeated (1), which of the four lengths follows (2), the
            number of values less one, and the value, or as many values.

    Raises:
        Unusable: it is no such stream, or of another size.
    """
    expected = height * width * _CHANNELS
    try:
        data = np.array(encoded, dtype=np.int64)
        if data.ndim != 1 or data.min() < 0 or data.max() > 255:
            raise ValueError
        bits = _Bits(data.astype(np.uint8))
        if bits.number(32) != expected:
            raise ValueError
        return _values(bits, expected).reshape(height, width, _CHANNELS)[..., 3] > 0
    except (ValueError, TypeError, OverflowError) as error:
        raise Unusable(BAD_MASK) from error


class _Bits:
    """Numbers from a stream of bits, the highest bit first."""

    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        self._bits = np.unpackbits(data)
        self._at = 0

    def number(self, size: int) -> int:
        """The next number of so many bits."""
        return int(self.numbers(1, size)[0])

    def numbers(self, count: int, size: int) -> npt.NDArray[np.int64]:
        """The next numbers of so many bits each; raises ValueError where the stream ends."""
        end = self._at + count * size
        if end > len(self._bits):
            raise ValueError
        bits = self._bits[self._at : end].reshape(count, size)
        self._at = end
        found: npt.NDArray[np.int64] = bits @ (1 << np.arange(size)[::-1])
        return found


def _values(bits: _Bits, expected: int) -> npt.NDArray[np.uint8]:
    size = bits.number(5) + 1
    if size > 8:
        raise ValueError
    lengths = [bits.number(4) + 1 for _ in range(4)]
    values = np.zeros(expected, dtype=np.uint8)
    at = 0
    while at < expected:
        is_repeated = bits.number(1)
        count = bits.number(lengths[bits.number(2)]) + 1
        if at + count > expected:
            raise ValueError
        values[at : at + count] = bits.number(size) if is_repeated else bits.numbers(count, size)
        at += count
    return values
