"""The stage `embed_crops`: extra crops of a part's elongated images, embedded with CLIP.

Most CLIPs see only the centre crop, SigLIP the whole image squashed. An image beyond 1.5 : 1 gets
square crops along its longer side, so that objects at its ends are found; each is one more row of
the index, and an image's score is that of its best row.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.embeddings.parts import to_float16_rows, write_embeddings
from storage.images.decoding import decoded
from storage.images.memory_budget import hold_for_file
from storage.images.records import read_parquet, write_parquet
from tasks.indexing.elongated import crop_boxes, is_elongated
from tasks.indexing.source_images import read_source_image
from tasks.stage.contract import Progress, waiting
from tasks.stage.layout import CROPS, EMBEDDINGS, RECORDS
from tasks.stage.models import ModelConfig, load_clip_model

if TYPE_CHECKING:
    from torch import Tensor

    from zutis_model.clip.towers import Clip

NAME = "embed_crops"
VERSION = 1
_COLUMNS = ["image_id", "uri", "offset", "length", "height", "width"]
_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("left", pa.int32()),
        ("top", pa.int32()),
        ("side", pa.int32()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the crops.

    Attributes:
        clip: the CLIP model.
        batch_size: crops per forward pass. Part of the key: it may change the last bit.
        bit_depth: as for the part's own images; not part of this key, but of the part's.
        read_threads: threads that read and decode. Not part of the key.
    """

    clip: ModelConfig
    batch_size: int = 32
    bit_depth: int = 0
    read_threads: int = 8


@dataclass(frozen=True)
class Inputs:
    """An `embed_images` artifact."""

    embedded: ArtifactRef


def _recipe(config: Config) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config={**config.clip.identity, "batch_size": config.batch_size},
        weights={"clip": config.clip.weights.digest},
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config).key([inputs.embedded.key]))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Embed the crops of a part's elongated images.

    Publishes `crops.parquet` (image_id; left, top and side in pixels of the upright image) and
    `embeddings.npy` (float16 [n, d], L2-normalised, row-aligned with it).

    Raises:
        CorpusError: an image is missing or has changed since it was indexed.
    """
    images = elongated_images(store.get(inputs.embedded))
    with waiting(progress, "loading CLIP"):
        clip = load_clip_model(config.clip)
    crops: list[dict[str, Any]] = []
    rows = [np.empty((0, clip.embedding_dim), np.float16)]
    waiting_crops: list[Tensor] = []
    for image, pixels in _prepare_all(images, clip, config):
        crops += [
            {"image_id": image["image_id"], "left": left, "top": top, "side": side}
            for left, top, side in _boxes(image, clip)
        ]
        waiting_crops += pixels
        while len(waiting_crops) >= config.batch_size:
            rows.append(_embed(clip, waiting_crops[: config.batch_size]))
            del waiting_crops[: config.batch_size]
        progress.advance(1)
    if waiting_crops:
        rows.append(_embed(clip, waiting_crops))
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(CROPS) as file:
            write_parquet(pa.Table.from_pylist(crops, _SCHEMA), file)
        with attempt.create(EMBEDDINGS) as file:
            write_embeddings(np.concatenate(rows), file)
        return store.publish(
            attempt, _recipe(config), inputs={"embedded": inputs.embedded.key},
            counts={"images": len(images), "crops": len(crops)},
            notes={"clip": config.clip.weights.label},
        )  # fmt: skip


def elongated_images(embedded: Artifact) -> list[dict[str, Any]]:
    """Records of the elongated images of an embedded part, each image once, in its order."""
    with embedded.open(RECORDS) as file:
        table = read_parquet(file, columns=_COLUMNS)
    sides = table["height"].to_numpy(), table["width"].to_numpy()
    rows = table.filter(pa.array(is_elongated(*sides))).to_pylist()
    return list({row["image_id"]: row for row in reversed(rows)}.values())[::-1]


def _boxes(image: dict[str, Any], clip: Clip) -> list[tuple[int, int, int]]:
    """The crops of an image; a SigLIP needs the centre too, since it saw the image squashed."""
    squashes = clip.preprocessing["resize_mode"] == "squash"
    return crop_boxes(image["height"], image["width"], central=squashes)


def _prepare_all(
    images: list[dict[str, Any]], clip: Clip, config: Config
) -> Iterator[tuple[dict[str, Any], list[Tensor]]]:
    """Images with their crops' pixels, in order, a few of them read ahead of the model."""

    def prepare(image: dict[str, Any]) -> list[Tensor]:
        with hold_for_file(image["length"]):
            data = read_source_image(image)
            with decoded(data, bit_depth=config.bit_depth, besides=_bytes_of_crop) as found:
                return [
                    clip.preprocess(found.image.crop((left, top, left + side, top + side)))
                    for left, top, side in _boxes(image, clip)
                ]

    with ThreadPoolExecutor(config.read_threads, thread_name_prefix="read") as pool:
        for start in range(0, len(images), config.batch_size):
            here = images[start : start + config.batch_size]
            yield from zip(here, pool.map(prepare, here), strict=True)


def _bytes_of_crop(height: int, width: int) -> int:
    return 4 * min(height, width) ** 2


def _embed(clip: Clip, pixels: list[Tensor]) -> np.ndarray:
    import torch

    return to_float16_rows(clip.embed_images(torch.stack(pixels)).cpu().numpy())
