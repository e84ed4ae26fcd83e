"""The stage `embed_text`: one text embedding per category, the normalised mean over its prompts.

A row belongs to the prompts, not to a vocabulary: categories that two vocabularies share are
embedded once, and a growing vocabulary costs only its new rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe, digest
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from tasks.categories.category_texts import truncation_warnings
from tasks.categories.logits import Logits
from tasks.retrieval.text_rows import publish_text_rows
from tasks.stage.contract import Progress, waiting
from tasks.stage.models import ModelConfig, load_clip_model

NAME = "embed_text"
VERSION = 1
_SCHEMA = pa.schema([("text_id", pa.string()), ("prompts", pa.list_(pa.string()))])


@dataclass(frozen=True)
class Text:
    """The prompts of one category."""

    prompts: tuple[str, ...]

    @property
    def text_id(self) -> str:
        """sha256 of the prompts, in their order."""
        return digest(list(self.prompts))


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the text embedding."""

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
    """The texts to embed, without duplicates."""

    texts: tuple[Text, ...]


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, config.recipe.key([text.text_id for text in inputs.texts]))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Embed texts as in the ZUTIS reference: unit-normalise each prompt, average, normalise.

    Publishes `texts.parquet` and `embeddings.npy` (float32 [n, d], unit rows). Each text passes
    the text tower separately, so that its row does not depend on the other texts.
    """
    with waiting(progress, "loading CLIP"):
        clip = load_clip_model(config.clip)
    rows = np.empty((len(inputs.texts), clip.embedding_dim), dtype=np.float32)
    for row, text in zip(rows, inputs.texts, strict=True):
        for sentence in truncation_warnings(clip, text.prompts):
            progress.warn(sentence)
        row[:] = clip.ensemble(clip.embed_prompts(text.prompts)).cpu().numpy()
        progress.advance(1)
    table = pa.Table.from_pylist(
        [{"text_id": text.text_id, "prompts": list(text.prompts)} for text in inputs.texts], _SCHEMA
    )
    return publish_text_rows(
        locate(config, inputs, store), config.recipe, table, rows,
        Logits(clip.logit_scale, clip.logit_bias), store,
        notes={"clip": config.clip.weights.label},
    )  # fmt: skip
