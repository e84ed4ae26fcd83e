"""Writing of WebDataset shards with reproducible bytes, and of their index of byte offsets.

A sample is `<key>.jpg`, `<key>.json` and `<key>.mask.png`. Members are written in that order with a
fixed time, owner and mode, so that equal samples give equal tars; their byte offsets make random
access possible without reading the tar.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
from PIL import Image

from storage.errors.exceptions import ConfigError

IMAGE, MASK, JSON = "jpg", "mask.png", "json"
_HEADER_BYTES = 512
_JPEG_QUALITY = 95
EIGHT_BIT_IGNORE_LABEL = 255
_MAX_8_BIT_LABEL = EIGHT_BIT_IGNORE_LABEL - 1
_MAX_16_BIT_LABEL = 65_534

INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("jpg_offset", pa.int64()),
        ("jpg_length", pa.int64()),
        ("json_offset", pa.int64()),
        ("json_length", pa.int64()),
        ("mask_offset", pa.int64()),
        ("mask_length", pa.int64()),
    ]
)
SEVERAL_SCHEMA = INDEX_SCHEMA.append(pa.field("objects", pa.list_(pa.int32())))
"""Of samples with several objects: the category_ids of those that have one, in the JSON's order."""
_COLUMNS = {IMAGE: "jpg", JSON: "json", MASK: "mask"}


@dataclass(frozen=True)
class SeveralObjects:
    """The objects of a sample.

    Attributes:
        label_map: integer [height, width]: 0 background, category_ids, the ignore label.
        labels: the objects' category_ids, in the JSON's order.
    """

    label_map: np.ndarray
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """One sample of a shard.

    Attributes:
        key: the image_id; holds no dot, at which WebDataset would end it.
        jpeg: the image.
        mask: bool [height, width], the object.
        label: the object's category_id in the label map.
        facts: everything else, for the JSON.
        several: of a sample with several objects, these; None of one with one.
    """

    key: str
    jpeg: bytes
    mask: np.ndarray
    label: int
    facts: dict[str, Any]
    several: SeveralObjects | None = None


class ShardWriter:
    """Writes samples into one tar.

    Args:
        file: where to, sequentially; left open.
        largest_label: the vocabulary's largest category_id, which decides the label maps' depth.
    """

    def __init__(self, file: IO[bytes], largest_label: int) -> None:
        import webdataset  # brings torch along, which nothing else here needs

        self._tar = webdataset.TarWriter(file, encoder=False, compress=False, mtime=0)
        self._largest_label = largest_label
        self._rows: list[dict[str, Any]] = []

    def write(self, sample: Sample) -> None:
        assert "." not in sample.key, f"WebDataset would cut the key {sample.key} at its dot"
        content = {
            IMAGE: sample.jpeg,
            JSON: _encode_json(sample.facts),
            MASK: self._label_map(sample),
        }
        offset = self._tar.tarstream.offset
        self._tar.write({"__key__": sample.key, **content})
        height, width = sample.mask.shape
        row: dict[str, Any] = {
            "key": sample.key,
            "label": sample.label,
            "height": height,
            "width": width,
        }
        if sample.several:
            row["objects"] = list(sample.several.labels)
        for extension in sorted(content):  # the order in which TarWriter writes members
            size = len(content[extension])
            name = _COLUMNS[extension]
            row |= {f"{name}_offset": offset + _HEADER_BYTES, f"{name}_length": size}
            offset += _HEADER_BYTES + _padded(size)
        assert offset == self._tar.tarstream.offset, "a member's header took more than one block"
        self._rows.append(row)

    def close(self) -> pa.Table:
        """End the tar and return its index (`INDEX_SCHEMA`, or `SEVERAL_SCHEMA` of samples with
        several objects): offsets and lengths in bytes."""
        self._tar.close()
        several = any("objects" in row for row in self._rows)
        return pa.Table.from_pylist(self._rows, SEVERAL_SCHEMA if several else INDEX_SCHEMA)

    def _label_map(self, sample: Sample) -> bytes:
        if sample.several:
            return _encode_png(sample.several.label_map, self._largest_label)
        return encode_label_map(sample.mask, sample.label, self._largest_label)


def ignore_label(largest_label: int) -> int:
    """The label map's value for pixels to ignore: 255, or 65,535 where 8 bits do not suffice.

    With more than 254 categories, 255 is a category; the reference, which always ignores 255,
    never learns it.

    Raises:
        ConfigError: 16 bits do not suffice either.
    """
    if largest_label > _MAX_16_BIT_LABEL:
        raise ConfigError(
            f"The vocabulary has {largest_label:,} categories, and a label map has "
            f"room for {_MAX_16_BIT_LABEL:,}: split the vocabulary."
        )
    return EIGHT_BIT_IGNORE_LABEL if largest_label <= _MAX_8_BIT_LABEL else 65_535


def encode_label_map(mask: np.ndarray, label: int, largest_label: int) -> bytes:
    """A PNG label map: 0 background, `label` where `mask` (bool [h, w]); 8-bit or 16-bit grey."""
    assert 0 < label <= largest_label <= _MAX_16_BIT_LABEL, (label, largest_label)
    return _encode_png(np.multiply(mask, label, dtype=np.uint16), largest_label)


def _encode_png(label_map: np.ndarray, largest_label: int) -> bytes:
    dtype = np.dtype(np.uint8 if largest_label <= _MAX_8_BIT_LABEL else np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(label_map.astype(dtype)).save(buffer, "PNG")
    return buffer.getvalue()


def encode_jpeg(image: Image.Image) -> bytes:
    """JPEG at quality 95 without chroma subsampling, for images that come in another format."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _encode_json(facts: dict[str, Any]) -> bytes:
    # NaN is no JSON, and strict readers stumble over it.
    return json.dumps(facts, ensure_ascii=False, sort_keys=True, allow_nan=False).encode()


def _padded(size: int) -> int:
    return (size + _HEADER_BYTES - 1) // _HEADER_BYTES * _HEADER_BYTES
