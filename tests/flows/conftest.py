"""Builds for tests of the flows: coloured images, and networks that recognise colours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.settings.build import BuildSettings
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.servers.prefect_homes import prepared_home


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need a Prefect server as slow, since one is started for them."""
    for item in items:
        if "prefect_api" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


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
    """A build of the images with the fakes."""
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
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prefect with a database of its own, for this test session."""
    from prefect.testing import utilities

    home = prepared_home(tmp_path_factory.mktemp("prefect-api"), "prefect-test.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            utilities, "mkdtemp", lambda: str(home)
        )  # Prefect looks for its database here
        with utilities.prefect_test_harness(server_startup_timeout=120):
            yield
