"""Labels by what their images show: a text, or the image of another label.

Cosines come from the embeddings of the build's index, and are exact.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flows.builds.found import FoundBuild
from flows.looking.search import model_of_index
from storage.artifacts.store import ArtifactRef
from storage.errors.exceptions import ConfigError
from storage.shards.samples import ShardSamples
from storage.vocabularies.prompt_templates import TEMPLATES
from storage.vocabularies.vocabulary import Category, category_prompts
from tasks.indexing.index_rows import IndexRows, load_index_rows
from tasks.stage.models import load_clip_model

Scores = npt.NDArray[np.float32]

LONGEST_TEXT: Final = 500
"""Characters of a text that is searched for."""

_ROWS_AT_ONCE: Final = 16_384


class ImageSearch:
    """Searches among the images of a data set. Thread-safe; what it needs is loaded once, when it
    is needed first.

    Args:
        build: of the data set.
        samples: of the data set.
        clip: ARCHITECTURE:WEIGHTS that reads texts; empty: the build's.
        device: of the network.
    """

    def __init__(
        self, build: FoundBuild, samples: ShardSamples, clip: str = "", device: str = "cpu"
    ) -> None:
        self._build, self._samples = build, samples
        self._clip, self._device = clip, device
        self._lock = threading.Lock()

    def by_text(self, text: str) -> Scores:
        """The cosine of each sample's image with a text; -inf for images that the index lacks.

        Raises:
            ConfigError: the text is empty or too long; or the model is not the index's.
            WeightsError: its weights can't be found or loaded.
            ArtifactError, StorageError: the index can't be read.
        """
        if not text.strip() or len(text) > LONGEST_TEXT:
            raise ConfigError(f"Search for a text of 1 to {LONGEST_TEXT} characters.")
        with self._lock:
            network = self._network
            prompts = category_prompts(Category(name=text.strip()), TEMPLATES)
            query = network.ensemble(network.embed_prompts(prompts)).cpu().numpy()
            return self._scores(query)

    def like(self, sample: int) -> Scores:
        """The cosine of each sample's image with that of another one; as `by_text`.

        Raises:
            ConfigError: the index lacks the image.
            ArtifactError, StorageError: the index can't be read.
        """
        with self._lock:
            position = self._positions[sample]
            if position < 0:
                raise ConfigError("The build's index lacks this image: search for words instead.")
            return self._scores(self._rows.fetch(np.array([position]))[0])

    def _scores(self, query: npt.NDArray[Any]) -> Scores:
        scores = np.full(len(self._samples), -np.inf, dtype=np.float32)
        for some, rows in self._blocks():
            scores[some] = rows.astype(np.float32) @ query.astype(np.float32)
        return scores

    def _blocks(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]]:
        """Indices of samples, and the embeddings of their images."""
        known = np.flatnonzero(self._positions >= 0)
        in_order = known[np.argsort(self._positions[known], kind="stable")]
        for start in range(0, len(in_order), _ROWS_AT_ONCE):
            some = in_order[start : start + _ROWS_AT_ONCE]
            yield some, self._rows.fetch(self._positions[some])

    @cached_property
    def _index(self) -> Any:
        key = self._build.record.manifest["inputs"]["index"]
        return self._build.store.get(ArtifactRef("build_index", key))

    @cached_property
    def _loaded(self) -> tuple[IndexRows, npt.NDArray[np.int64]]:
        """The index's rows, and the position in it of each sample's image; -1 where it has none."""
        rows, image_ids = load_index_rows(self._index, self._build.store)
        sample_of = {self._samples.key(at): at for at in range(len(self._samples))}
        positions = np.full(len(self._samples), -1, dtype=np.int64)
        for position, image_id in enumerate(image_ids[: rows.images].to_pylist()):
            if (sample := sample_of.get(image_id)) is not None:
                positions[sample] = position
        return rows, positions

    @property
    def _rows(self) -> IndexRows:
        return self._loaded[0]

    @property
    def _positions(self) -> npt.NDArray[np.int64]:
        return self._loaded[1]

    @cached_property
    def _network(self) -> Any:
        model = model_of_index(
            self._index, self._clip, self._build.record, self._device, self._build.store
        )
        return load_clip_model(model)
