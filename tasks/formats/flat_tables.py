"""Flat Parquet tables: a row for each label, a row for each image."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.exporting.exported import ExportedImage
from tasks.formats.writer import Target

_IMAGES: Final = pa.schema(
    [
        ("image_id", pa.string()),
        ("number", pa.int64()),
        ("split", pa.string()),
        ("file_name", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("source", pa.string()),
        ("labels", pa.int32()),
    ]
)
_LABELS: Final = pa.schema(
    [
        ("image_id", pa.string()),
        ("split", pa.string()),
        ("file_name", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("object", pa.int32()),
        ("mask_id", pa.string()),
        ("category_id", pa.int32()),
        ("category", pa.string()),
        ("external_id", pa.string()),
        ("left", pa.int32()),
        ("top", pa.int32()),
        ("box_width", pa.int32()),
        ("box_height", pa.int32()),
        ("area", pa.int64()),
        ("quality", pa.float64()),
        ("score", pa.float64()),
        ("rank", pa.int32()),
        # COCO's compressed run lengths of the mask, of height x width.
        ("counts", pa.string()),
    ]
)
_ROWS: Final = 10_000


class TableWriter:
    """Writes `labels.parquet`, `images.parquet`, and images into `images/SPLIT/`."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._images = RowFile(target.folder / "images.parquet", _IMAGES)
        self._labels = RowFile(target.folder / "labels.parquet", _LABELS)

    def add(self, image: ExportedImage) -> None:
        name = self._target.images.put(image, f"images/{image.split}")
        shared = {
            "image_id": image.image_id, "split": image.split, "file_name": name,
            "height": image.height, "width": image.width,
        }  # fmt: skip
        own = {"number": image.number, "source": image.source, "labels": len(image.objects)}
        self._images.add(shared | own)
        for place, each in enumerate(image.objects):
            category = self._target.contents.category(each.label)
            left, top, width, height = each.box
            own = {
                "object": place,
                "mask_id": each.mask_id,
                "category_id": category.number,
                "category": category.name,
                "external_id": category.external_id,
                "left": left,
                "top": top,
                "box_width": width,
                "box_height": height,
                "area": each.area,
                "quality": each.quality,
                "score": each.score,
                "rank": each.rank,
                "counts": each.mask["counts"],
            }  # fmt: skip
            self._labels.add(shared | own)

    def finish(self) -> None:
        self.close()

    def close(self) -> None:
        self._images.close()
        self._labels.close()


class RowFile:
    """A Parquet file that is written row by row.

    Args:
        path: of the file; its folder is there.
        schema: of the rows.
        rows: of a group, which are in memory together.
    """

    def __init__(self, path: Path, schema: pa.Schema, rows: int = _ROWS) -> None:
        self._schema, self._most = schema, rows
        self._rows: list[dict[str, Any]] = []
        self._file = pq.ParquetWriter(path, schema, compression="zstd")

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= self._most:
            self._flush()

    def close(self) -> None:
        """Write the rest; may be called again."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, self._schema))
            self._rows = []
