"""A fresh store and the stages on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.artifacts.store import ArtifactStore
from tests.support.runs.stages import Stages


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


@pytest.fixture
def stages(store: ArtifactStore) -> Stages:
    return Stages(store)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return tmp_path / "corpus"
