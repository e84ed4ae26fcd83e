"""Embeddings of categories, of texts or example images: written, and gathered again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.embeddings.parts import open_embeddings, write_embeddings
from storage.images.records import read_parquet, write_parquet
from tasks.categories.logits import Logits
from tasks.stage.layout import EMBEDDINGS, TEXTS


@dataclass(frozen=True)
class TextRow:
    """Reference to the embedding of one category's prompts, or of its examples.

    Attributes:
        text_id: sha256 of the prompts, or of what the examples are.
        key: of the artifact that has the row.
        stage: that made the artifact: `embed_text` or `embed_examples`.
    """

    text_id: str
    key: str
    stage: str = "embed_text"

    @property
    def artifact(self) -> ArtifactRef:
        """The artifact that has the row."""
        return ArtifactRef(self.stage, self.key)


def publish_text_rows(
    ref: ArtifactRef,
    recipe: Recipe,
    table: pa.Table,
    rows: np.ndarray,
    logits: Logits,
    store: ArtifactStore,
    **manifest: Any,
) -> Artifact:
    """Publish rows as `load_text_rows` finds them: `texts.parquet` and `embeddings.npy`.

    Args:
        ref: of the artifact; recipe: of its stage.
        table: a row of each embedding, with its `text_id`.
        rows: float32 [n, d], unit rows.
        logits: of the model.
        manifest: `inputs` and `notes` of the manifest.
    """
    bias = {} if logits.bias is None else {"logit_bias": logits.bias}
    with store.attempt(ref) as attempt:
        with attempt.create(TEXTS) as file:
            write_parquet(table, file)
        with attempt.create(EMBEDDINGS) as file:
            write_embeddings(rows, file)
        counts = {"texts": len(rows), "logit_scale": logits.scale, **bias}
        return store.publish(attempt, recipe, counts=counts, **manifest)


def load_text_rows(rows: Sequence[TextRow], store: ArtifactStore) -> tuple[np.ndarray, Logits]:
    """Gather embeddings.

    Args:
        rows: the requested rows, in order; all of one model.

    Returns:
        float32 [len(rows), d] of unit length, and the model's logits.
    """
    found: dict[str, np.ndarray] = {}
    for ref in sorted({row.artifact for row in rows}, key=str):
        artifact = store.get(ref)
        with artifact.open(TEXTS) as file:
            ids = read_parquet(file, columns=["text_id"])["text_id"].to_pylist()
        embeddings = np.array(open_embeddings(artifact, EMBEDDINGS))
        found |= dict(zip(ids, embeddings, strict=True))
    counts = artifact.counts
    logits = Logits(counts["logit_scale"], counts.get("logit_bias"))
    return np.stack([found[row.text_id] for row in rows]), logits
