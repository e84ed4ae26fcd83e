"""Settings and inputs that the stages of this room share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.images.records import read_parquet
from tasks.stage.layout import RETRIEVED_IMAGES


@dataclass(frozen=True, kw_only=True)
class MatchingConfig:
    """When two images show the same.

    Attributes:
        least_similarity: the smallest cosine of the embeddings of images that are compared.
        neighbours: of an image, how many of the nearest by embedding are compared with it.
        greatest_distance: 1 - correlation of the details of what both images show, once it is
            aligned, at which they still are near-duplicates.
        device: where products of embeddings are computed; not part of the key.
        threads: that read and compare images; not part of the key.
    """

    least_similarity: float = 0.7
    neighbours: int = 16
    greatest_distance: float = 0.2
    device: str = "cpu"
    threads: int = os.cpu_count() or 1

    def __post_init__(self) -> None:
        if not -1 <= self.least_similarity <= 1:
            raise ConfigError(f"least_similarity is {self.least_similarity}: choose -1 to 1.")
        if self.neighbours < 1:
            raise ConfigError(f"neighbours is {self.neighbours}: choose at least 1.")
        if not 0 <= self.greatest_distance <= 1:
            raise ConfigError(f"greatest_distance is {self.greatest_distance}: choose 0 to 1.")

    @property
    def deciding(self) -> dict[str, Any]:
        """The settings in the key."""
        return {
            "least_similarity": self.least_similarity,
            "neighbours": self.neighbours,
            "greatest_distance": self.greatest_distance,
        }


def keys_of(index: ArtifactRef, retrieval: ArtifactRef | None) -> dict[str, str]:
    """The keys of an index, and of the retrieval that restricts it, for a recipe."""
    return {"index": index.key, **({"retrieval": retrieval.key} if retrieval else {})}


def chosen_positions(
    image_ids: pa.ChunkedArray, retrieval: ArtifactRef | None, store: ArtifactStore
) -> np.ndarray:
    """int64, ascending: positions of the retrieval's images in an index; of all without one.

    Args:
        image_ids: of the index's images by position, without those of crops.
    """
    if retrieval is None:
        return np.arange(len(image_ids))
    with store.get(retrieval).open(RETRIEVED_IMAGES) as file:
        wanted = read_parquet(file, columns=["image_id"])["image_id"]
    return np.flatnonzero(pc.is_in(image_ids, wanted.combine_chunks()).to_numpy())
