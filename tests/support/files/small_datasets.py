"""Small data sets in a folder, as `assemble_dataset` publishes them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pycocotools.mask import encode

from storage.images.records import write_parquet
from storage.shards.writing import Sample, ShardWriter


def stored_sample(
    seed: int, label: int, size: tuple[int, int] = (96, 128), mask: np.ndarray | None = None
) -> Sample:
    """A smooth coloured image (height, width), by default with an ellipse for an object."""
    rng = np.random.default_rng(seed)
    height, width = size
    coarse = rng.integers(30, 226, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    if mask is None:
        y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        centre = rng.uniform(-0.3, 0.3, 2)
        mask = ((y - centre[0]) / 0.5) ** 2 + ((x - centre[1]) / 0.4) ** 2 < 1
    rle = encode(np.asfortranarray(mask, dtype=np.uint8))
    facts = {"label": label, "mask": {"size": list(size), "counts": rle["counts"].decode()}}
    return Sample(f"{seed:08x}", buffer.getvalue(), mask, label, facts)


def write_dataset(
    folder: Path, samples: Sequence[Sample], categories: Mapping[int, str], shard_samples: int = 4
) -> Path:
    """Shards of at most `shard_samples`, index and vocabulary; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for start in range(0, max(len(samples), 1), shard_samples):
        name = f"small-{start // shard_samples:06d}.tar"
        with (folder / name).open("wb") as file:
            writer = ShardWriter(file, max(categories))
            for sample in samples[start : start + shard_samples]:
                writer.write(sample)
            table = writer.close()
        names = pa.array([name] * table.num_rows, pa.string())
        tables.append(table.add_column(0, "shard", names))
    write_parquet(pa.concat_tables(tables), folder / "index.parquet")
    rows = [{"category_id": number, "name": name} for number, name in categories.items()]
    (folder / "vocabulary.json").write_text(json.dumps(rows))
    return folder
