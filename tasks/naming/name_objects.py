"""The stage `name_objects`: which category each object of the retrieved images shows, or none.

A mask of several objects an image knows no category. CLIP looks at each (`embed_regions`), and
what it says decides over the image's retrieval: an image that was retrieved for "dog" labels its
"cat", too, and has no "dog" where no object looks like one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe, unless_default
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.images.masks import mask_pixels
from storage.images.records import read_parquet, write_parquet
from tasks.categories.logits import Logits
from tasks.naming.candidates import chosen, name_probabilities
from tasks.quality.measured_regions import load_regions
from tasks.quality.source_masks import mask_rows
from tasks.retrieval.text_rows import TextRow, load_text_rows
from tasks.stage.contract import Progress
from tasks.stage.layout import NAMED_OBJECTS, RETRIEVAL

NAME = "name_objects"
VERSION = 1

NO_CATEGORY = "no_category"
COVERED = "covered"
UNMEASURED = "unmeasured"

_RETRIEVED = ["rank", "score", "probability", "margin"]
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("mask_id", pa.string()),
        ("category_id", pa.int32()),
        ("category", pa.string()),
        ("name_probability", pa.float32()),
        ("rank", pa.int32()),
        ("score", pa.float32()),
        ("probability", pa.float32()),
        ("margin", pa.float32()),
        ("reason", pa.string()),
    ]
)
"""`category_id` is the likeliest one, 0 where the object could not be measured. `rank` to `margin`
are the retrieval's, empty where the image was not retrieved for the category. `reason` is why the
object has no label: no category is likely enough, a better one covers it, or it could not be
measured; empty where it has one."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the naming.

    Attributes:
        min_name: least probability of the category over the vocabulary; below, the object has none.
    """

    min_name: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.min_name <= 1:
            raise ConfigError(f"min_name is {self.min_name}: choose 0 to 1.")


@dataclass(frozen=True)
class Inputs:
    """A retrieval, the masks of its images and their regions, and the vocabulary: the categories'
    names, and their texts by the regions' CLIP, in the order of category_ids from 1."""

    retrieval: ArtifactRef
    masks: tuple[ArtifactRef, ...]
    regions: tuple[ArtifactRef, ...]
    names: tuple[str, ...]
    texts: tuple[TextRow, ...]


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config=unless_default(config, "min_name"),
        inputs={
            "retrieval": inputs.retrieval.key,
            "masks": sorted(ref.key for ref in inputs.masks),
            "regions": sorted(ref.key for ref in inputs.regions),
        },
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    items = [[name, text.text_id] for name, text in zip(inputs.names, inputs.texts, strict=True)]
    return ArtifactRef(NAME, _recipe(config, inputs).key(items))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `objects.parquet` (`SCHEMA`): every object of the images that a category keeps,
    sorted by image_id and mask_id. The counts tell how many objects have a category, how many were
    looked at, and in how many images."""
    texts, logits = load_text_rows(inputs.texts, store)
    retrieved = _retrieved(inputs.retrieval, store)
    regions, vectors = load_regions(inputs.regions, list(retrieved), store)
    of_image: dict[str, list[dict[str, Any]]] = {}
    for row in regions.select(["image_id", "mask_id", "row"]).to_pylist():
        of_image.setdefault(row["image_id"], []).append(row)
    masks = mask_rows({ref.key for ref in inputs.masks}, set(of_image), store)
    rows: list[dict[str, Any]] = []
    for image_id, candidates in of_image.items():
        pixels = {row["mask_id"]: row for row in masks[image_id]}
        own = retrieved[image_id]
        rows += _named(candidates, vectors, pixels, own, (texts, logits), inputs.names, config)
        progress.advance(1)
    reasons = Counter(row["reason"] for row in rows)
    images = Counter(row["image_id"] for row in rows if not row["reason"])
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(NAMED_OBJECTS) as file:
            write_parquet(pa.Table.from_pylist(rows, SCHEMA), file)
        return store.publish(
            attempt,
            _recipe(config, inputs),
            counts={
                "candidates": len(rows),
                "objects": reasons.pop("", 0),
                "left_out": dict(sorted(reasons.items())),
                "images": len(images),
                "images_with_several": sum(count > 1 for count in images.values()),
                "images_without": len(of_image) - len(images),
            },
        )


_Kept = dict[int, dict[str, Any]]  # the retrieval's rows by category_id


def _retrieved(retrieval: ArtifactRef, store: ArtifactStore) -> dict[str, _Kept]:
    """What the retrieval keeps, by image_id in their order."""
    with store.get(retrieval).open(RETRIEVAL) as file:
        table = read_parquet(file, columns=["image_id", "category_id", "kept", *_RETRIEVED])
    found: dict[str, _Kept] = {}
    for row in table.filter(table["kept"]).sort_by("image_id").to_pylist():
        found.setdefault(row["image_id"], {})[row["category_id"]] = row
    return found


def _named(
    candidates: Sequence[dict[str, Any]],
    vectors: npt.NDArray[np.float16],
    pixels: dict[str, dict[str, Any]],
    retrieved: _Kept,
    vocabulary: tuple[npt.NDArray[np.float32], Logits],
    names: Sequence[str],
    config: Config,
) -> Iterator[dict[str, Any]]:
    """The rows of one image's objects, in the order of the candidates."""
    measured = [each for each in candidates if each["row"] >= 0]
    found: dict[str, dict[str, Any]] = {}
    if measured:
        expected = np.isin(np.arange(1, len(names) + 1), list(retrieved))
        own = vectors[[each["row"] for each in measured]].astype(np.float32)
        likely = name_probabilities(own, *vocabulary, expected)
        best = likely.max(axis=1)
        masks = [mask_pixels(pixels[each["mask_id"]]) for each in measured]
        kept = set(chosen(masks, best))
        for place, each in enumerate(measured):
            category_id = int(likely[place].argmax()) + 1
            clear = best[place] >= config.min_name
            found[each["mask_id"]] = {
                "category_id": category_id,
                "category": names[category_id - 1],
                "name_probability": best[place],
                "reason": COVERED if place not in kept else "" if clear else NO_CATEGORY,
                **{name: retrieved.get(category_id, {}).get(name) for name in _RETRIEVED},
            }
    unknown = {"category_id": 0, "category": "", "reason": UNMEASURED}
    for each in candidates:
        which = {"image_id": each["image_id"], "mask_id": each["mask_id"]}
        yield which | found.get(each["mask_id"], unknown)
