"""Searching the FAISS file of an approximate index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np

from storage.artifacts.store import Artifact
from tasks.stage.layout import FAISS_FILE

ApproximateSearch: TypeAlias = Callable[[np.ndarray, int], list[np.ndarray]]
"""For queries float32 [q, d] and k: each query's int64 positions, at most k and in no order."""


@contextmanager
def approximate_search(index: Artifact) -> Iterator[ApproximateSearch]:
    """Open the FAISS file of an index, with the search parameters of its configuration.

    Raises:
        ArtifactError: the file is damaged.
        ConfigError: from a search whose parameters FAISS doesn't take.
    """
    from storage.embeddings import faiss_index

    parameters = index.manifest["config"]["index_search"]

    def searched(path: Path) -> ApproximateSearch:
        opened = faiss_index.read(str(path))

        def search(queries: np.ndarray, k: int) -> list[np.ndarray]:
            _, positions = faiss_index.search(opened, queries, k, parameters)
            return [row[row >= 0] for row in positions]

        return search

    path = index.local_path(FAISS_FILE)
    if path is not None:
        yield searched(path)
        return
    with TemporaryDirectory() as folder, index.open(FAISS_FILE) as remote:
        local = Path(folder) / FAISS_FILE
        with local.open("wb") as copy:
            while chunk := remote.read(1 << 22):
                copy.write(chunk)
        yield searched(local)
