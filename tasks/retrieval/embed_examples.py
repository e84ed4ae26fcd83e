"""The stage `embed_examples`: one embedding a category of its example images, and of its name.

What is looked for is w · name + (1 - w) · examples, normalised: `name` is the category's text
embedding, `examples` the normalised mean of the embeddings of its example images, all of unit
length, and w the category's `name_weight`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe, digest
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from tasks.retrieval.example_images import ExampleImage, load_example
from tasks.retrieval.text_rows import TextRow, load_text_rows, publish_text_rows
from tasks.stage.contract import Progress, waiting
from tasks.stage.models import ModelConfig, load_clip_model

NAME = "embed_examples"
VERSION = 1
_SCHEMA = pa.schema([("text_id", pa.string()), ("image_ids", pa.list_(pa.string()))])


@dataclass(frozen=True)
class Examples:
    """The examples of one category.

    Attributes:
        category: its name, for errors.
        text: its text row.
        images: that show it.
        name_weight: share of the text row, 0 to 1.
    """

    category: str
    text: TextRow
    images: tuple[ExampleImage, ...]
    name_weight: float

    @property
    def text_id(self) -> str:
        """sha256 of what the embedding is made from, wherever the images lie."""
        image_ids = sorted(image.image_id for image in self.images)
        return digest([self.text.text_id, image_ids, self.name_weight])


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the embedding: of the model that has embedded the corpus and the texts."""

    clip: ModelConfig

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            stage=NAME,
            version=VERSION,
            config=self.clip.identity,
            weights={"clip": self.clip.weights.digest},
        )


@dataclass(frozen=True)
class Inputs:
    """The categories' examples, without duplicates."""

    examples: tuple[Examples, ...]


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, config.recipe.key([each.text_id for each in inputs.examples]))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `texts.parquet` (text_id, image_ids) and `embeddings.npy` (float32 [n, d], unit
    rows), laid out as by `embed_text`. Each image passes the network alone, so that its embedding
    does not depend on the others.

    Raises:
        VocabularyError: an image can't be read or used, or has changed since it was found.
    """
    import torch

    with waiting(progress, "loading CLIP"):
        clip = load_clip_model(config.clip)
    texts, logits = load_text_rows([each.text for each in inputs.examples], store)
    rows = np.empty((len(inputs.examples), clip.embedding_dim), dtype=np.float32)
    for row, text, examples in zip(rows, texts, inputs.examples, strict=True):
        images = [
            clip.embed_images(clip.preprocess(load_example(examples.category, image))[None])
            for image in sorted(examples.images, key=lambda image: image.image_id)
        ]
        row[:] = mixed(text, torch.cat(images).cpu().numpy(), examples.name_weight)
        progress.advance(1)
    table = pa.Table.from_pylist(
        [
            {"text_id": each.text_id, "image_ids": [image.image_id for image in each.images]}
            for each in inputs.examples
        ],
        _SCHEMA,
    )
    return publish_text_rows(
        locate(config, inputs, store), config.recipe, table, rows, logits, store,
        inputs={"texts": sorted({each.text.key for each in inputs.examples})},
        notes={"clip": config.clip.weights.label},
    )  # fmt: skip


def mixed(text: np.ndarray, images: np.ndarray, name_weight: float) -> np.ndarray:
    """The embedding that is looked for: float64 [d], of unit length.

    Args:
        text: [d], of the category's name; images: [n, d], of its examples; of unit length.
        name_weight: share of the text, 0 to 1.
    """
    mean = images.astype(np.float64).mean(axis=0)
    both = name_weight * text + (1 - name_weight) * mean / np.linalg.norm(mean)
    return np.asarray(both / np.linalg.norm(both))
