"""A training's files as a local folder, wherever the store is."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from storage.access.roots import own_folder
from storage.artifacts.store import Artifact
from tasks.prediction.checkpoint import DESCRIPTION, MODEL, TEXT_EMBEDDINGS


@contextlib.contextmanager
def model_folder(training: Artifact) -> Iterator[Path]:
    """A local folder with the training's files, checked against its manifest."""
    names = [name for name in (MODEL, DESCRIPTION, TEXT_EMBEDDINGS) if name in training.files]
    paths = [training.local_path(name) for name in names]
    if paths and paths[0] is not None:
        yield paths[0].parent
        return
    with tempfile.TemporaryDirectory() as folder, own_folder(folder):
        for name in names:
            with training.open(name) as file:
                Path(folder, name).write_bytes(file.read())
        yield Path(folder)
