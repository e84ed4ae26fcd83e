"""Hugging Face's `datasets`: Parquet files with images, a card, and the same saved to disk."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from tasks.exporting.contents import Contents
from tasks.exporting.exported import ExportedImage
from tasks.formats.writer import Target, as_json, write_json

_ROWS: Final = 100
_BATCH_BYTES: Final = 64_000_000
"""Images in memory together; `datasets` reads a batch at a time, too."""

_FILE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_OBJECT: Final = pa.struct(
    [
        ("category", pa.int64()),
        ("bbox", pa.list_(pa.int64())),
        ("area", pa.int64()),
        ("counts", pa.string()),
        ("quality", pa.float64()),
        ("score", pa.float64()),
        ("rank", pa.int64()),
        ("mask_id", pa.string()),
    ]
)
_FIELDS: Final = pa.schema(
    [
        ("image", _FILE),
        ("label_map", _FILE),
        ("image_id", pa.string()),
        ("height", pa.int64()),
        ("width", pa.int64()),
        ("source", pa.string()),
        ("objects", pa.list_(_OBJECT)),
    ]
)
_WITHOUT: Final = ("A sample", "Reading")
"""Sections of the build's card that are about shards."""


class HuggingFaceWriter:
    """Writes `data/SPLIT-00000-of-00001.parquet` and `README.md` for `load_dataset`, and `saved/`
    for `load_from_disk`."""

    def __init__(self, target: Target) -> None:
        self._target = target
        features = _features([category.name for category in target.contents.categories])
        self._splits = {
            split: _Split(target.folder, split, features, target.contents.key)
            for split in target.contents.splits
        }

    def add(self, image: ExportedImage) -> None:
        self._target.images.counts["copy"] += 1
        label_map = image.label_map(self._target.contents.ignore_label)
        self._splits[image.split].add(
            {
                "image": {"bytes": image.jpeg, "path": f"{image.stem}.jpg"},
                "label_map": {
                    "bytes": _png(label_map, self._target.contents.ignore_label),
                    "path": f"{image.stem}.png",
                },
                "image_id": image.image_id,
                "height": image.height,
                "width": image.width,
                "source": image.source,
                "objects": [
                    {
                        "category": each.label - 1,
                        "bbox": list(each.box),
                        "area": each.area,
                        "counts": each.mask["counts"],
                        "quality": each.quality,
                        "score": each.score,
                        "rank": each.rank,
                        "mask_id": each.mask_id,
                    }
                    for each in image.objects
                ],
            }
        )

    def finish(self) -> None:
        self.close()
        folder, splits = self._target.folder, list(self._splits)
        write_json(folder / "saved" / "dataset_dict.json", {"splits": splits})
        (folder / "README.md").write_text(_card(self._target.contents), encoding="utf-8")

    def close(self) -> None:
        for split in self._splits.values():
            split.close()


class _Split:
    """The files of a split, written batch by batch."""

    def __init__(self, folder: Path, split: str, features: dict[str, Any], key: str) -> None:
        schema = _FIELDS.with_metadata({"huggingface": as_json({"info": {"features": features}})})
        saved = folder / "saved" / split
        saved.mkdir(parents=True)
        (folder / "data").mkdir(exist_ok=True)
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._schema = schema
        self._parquet = pq.ParquetWriter(
            folder / "data" / f"{split}-00000-of-00001.parquet", schema, compression="zstd"
        )
        arrow = "data-00000-of-00001.arrow"
        self._stream = pa.ipc.new_stream(str(saved / arrow), schema)
        write_json(saved / "dataset_info.json", {"features": features, "citation": "",
                   "description": "", "homepage": "", "license": ""})  # fmt: skip
        state: dict[str, Any] = {
            "_data_files": [{"filename": arrow}],
            "_fingerprint": hashlib.sha256(f"{key} {split}".encode()).hexdigest()[:16],
            "_format_columns": None, "_format_kwargs": {}, "_format_type": None,
            "_output_all_columns": False, "_split": split,
        }  # fmt: skip
        write_json(saved / "state.json", state)

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        self._bytes += len(row["image"]["bytes"]) + len(row["label_map"]["bytes"])
        if len(self._rows) >= _ROWS or self._bytes >= _BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        """Write the rest; may be called again."""
        self._flush()
        self._parquet.close()
        self._stream.close()

    def _flush(self) -> None:
        if self._rows:
            batch = pa.RecordBatch.from_pylist(self._rows, self._schema)
            self._parquet.write_batch(batch)
            self._stream.write_batch(batch)
            self._rows, self._bytes = [], 0


def _features(names: list[str]) -> dict[str, Any]:
    """The columns' types as `datasets` has them."""

    def value(kind: str) -> dict[str, str]:
        return {"dtype": kind, "_type": "Value"}

    return {
        "image": {"_type": "Image"},
        "label_map": {"_type": "Image"},
        "image_id": value("string"),
        "height": value("int64"),
        "width": value("int64"),
        "source": value("string"),
        "objects": {
            "feature": {
                "category": {"names": names, "_type": "ClassLabel"},
                "bbox": {"feature": value("int64"), "_type": "List"},
                "area": value("int64"),
                "counts": value("string"),
                "quality": value("float64"),
                "score": value("float64"),
                "rank": value("int64"),
                "mask_id": value("string"),
            },
            "_type": "List",
        },
    }


def _png(label_map: np.ndarray, ignored: int) -> bytes:
    dtype = np.uint8 if ignored <= np.iinfo(np.uint8).max else np.uint16
    file = io.BytesIO()
    Image.fromarray(label_map.astype(dtype)).save(file, "PNG")
    return file.getvalue()


def _card(contents: Contents) -> str:
    """The data set card: how to read these files, then what the build's card says of the labels."""
    splits = [{"split": split, "path": f"data/{split}-*.parquet"} for split in contents.splits]
    front = {
        "configs": [{"config_name": "default", "data_files": splits}],
        "license": "unknown",
        "task_categories": ["image-segmentation"],
        "tags": ["pseudo-labels"],
    }
    counts = ", ".join(f"{split} {count:,}" for split, count in contents.counts().items())
    return f"""---
{yaml.safe_dump(front, sort_keys=False)}---

# {contents.name}

Images with pseudo-labels: {counts}. Exported from the data set `{contents.key}`.

```python
from datasets import load_dataset, load_from_disk

samples = load_dataset("parquet", data_files="data/*.parquet")
samples = load_from_disk("saved")  # the same
```

| column | content |
|---|---|
| `image` | the image, upright |
| `label_map` | 0 background, 1 + `category` on an object, {contents.ignore_label} to be ignored |
| `image_id` | sha256 of the bytes of the image's source |
| `source` | where the image came from |
| `objects` | of each object: `category`; `bbox`: left, top, width, height; `counts`: COCO's \
compressed run lengths of the mask, of `height` x `width`; `quality`, `score` and `rank` where \
they are known |

What follows is the card of the whole data set, before anything was left out or split.

{_of_the_build(contents.card)}"""


def _of_the_build(card: str) -> str:
    """The build's card without its front matter and the sections about shards."""
    body = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL).strip()
    sections = re.split(r"^(?=## )", body, flags=re.MULTILINE)
    kept = [each for each in sections if not each.startswith(tuple(f"## {n}\n" for n in _WITHOUT))]
    return "".join(kept).replace("\n# ", "\n## ").rstrip() + "\n"
