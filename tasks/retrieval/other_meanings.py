"""Images that show what a category's name could mean, too, and does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from storage.artifacts.store import ArtifactStore
from tasks.indexing.index_rows import IndexRows
from tasks.retrieval.category_queries import CategoryQuery, embeddings_of
from tasks.retrieval.text_rows import load_text_rows


def nearer_to_others(
    categories: Sequence[CategoryQuery],
    rows: IndexRows,
    positions: np.ndarray,
    column: np.ndarray,
    scores: np.ndarray,
    store: ArtifactStore,
) -> np.ndarray:
    """Whether each neighbour's cosine with one of its category's `not` texts is above its score.

    Args:
        categories: those of the neighbours.
        rows: of the index.
        positions: int64 [n], of the neighbours in the index.
        column: [n], indices of their categories.
        scores: [n], on the scale of cosines with texts.
        store: that has the texts.

    Returns:
        bool [n].
    """
    nearer = np.zeros(len(positions), dtype=bool)
    asked = [number for number, category in enumerate(categories) if category.not_these]
    places = [np.flatnonzero(column == number) for number in asked]
    embeddings = embeddings_of(rows, [positions[here] for here in places])
    for number, here, images in zip(asked, places, embeddings, strict=True):
        others, _ = load_text_rows(categories[number].not_these, store)
        # A sum of products, not a matrix product: BLAS may order its additions by shape.
        cosines = [(images * other).sum(axis=1) for other in others.astype(np.float64)]
        nearer[here] = np.max(cosines, axis=0) > scores[here]
    return nearer
