"""Builds for the tests of the flows: coloured pictures, and networks that see colours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from coloured_images import write_corpus
from fakes import FakeClip, FakeSelfMask

from flows.settings.build import BuildSettings


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    write_corpus(folder, ["red", "green", "blue"], each=4)
    return folder


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "colours.txt"
    path.write_text("red\ngreen\nblue\n")
    return path


@pytest.fixture
def settings(
    tmp_path: Path, corpus: Path, vocabulary: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> BuildSettings:
    """A build of the pictures, answered by the fakes."""
    return BuildSettings(
        corpus=(str(corpus),),
        vocabulary=str(vocabulary),
        per_category=4,
        clip="made-ViT-8:random:0",
        selfmask="random:0",
        mask_size=40,
        part_images=5,
        mask_part_images=5,
        store=str(tmp_path / "store"),
    )


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """Prefect with a database of its own, for this test session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
