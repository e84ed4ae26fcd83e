"""Small corpora of made images and near-duplicates of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.near_copies import CHANGES
from made_world.scenes.images import corpus_image
from storage.artifacts.store import Artifact
from tests.support.runs.builds import rows_of
from tests.support.runs.stages import Stages

_SEED = 11


def write_originals(folder: Path, count: int, first: int = 0) -> None:
    """Write `NUMBER.png` for numbers from `first`; equal numbers give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        _image(number).save(folder / f"{number}.png")


def write_copies(folder: Path, number: int, *changes: str) -> None:
    """Write `NUMBER-CHANGE.jpg`, near-duplicates of an original that need not be there."""
    folder.mkdir(parents=True, exist_ok=True)
    for change in changes:
        data = CHANGES[change](_image(number), np.random.default_rng(number))
        (folder / f"{number}-{change}.jpg").write_bytes(data)


def _image(number: int) -> Image.Image:
    return Image.fromarray(corpus_image(_SEED, number).pixels)


def names_of(stages: Stages, index: Artifact) -> dict[str, str]:
    """File names of the images of an index, by image_id."""
    names: dict[str, str] = {}
    for key in index.manifest["inputs"]["parts"]:
        [part] = stages.store.published("embed_images", key)
        names |= {
            row["image_id"]: Path(row["uri"]).name for row in rows_of(part, "records.parquet")
        }
    return names
