"""Text embeddings of categories, gathered from the artifacts that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.embeddings.parts import open_embeddings
from storage.images.records import read_parquet
from tasks.categories.logits import Logits
from tasks.stage.layout import EMBEDDINGS, TEXTS


@dataclass(frozen=True)
class TextRow:
    """Reference to the embedding of one category's prompts.

    Attributes:
        text_id: sha256 of the prompts.
        key: of the `embed_text` artifact that has the row.
    """

    text_id: str
    key: str


def load_text_rows(rows: Sequence[TextRow], store: ArtifactStore) -> tuple[np.ndarray, Logits]:
    """Gather embeddings.

    Args:
        rows: the requested rows, in order; all of one model.

    Returns:
        float32 [len(rows), d] of unit length, and the model's logits.
    """
    found: dict[str, np.ndarray] = {}
    for key in sorted({row.key for row in rows}):
        artifact = store.get(ArtifactRef("embed_text", key))
        with artifact.open(TEXTS) as file:
            ids = read_parquet(file, columns=["text_id"])["text_id"].to_pylist()
        embeddings = np.array(open_embeddings(artifact, EMBEDDINGS))
        found |= dict(zip(ids, embeddings, strict=True))
    counts = artifact.counts
    logits = Logits(counts["logit_scale"], counts.get("logit_bias"))
    return np.stack([found[row.text_id] for row in rows]), logits
