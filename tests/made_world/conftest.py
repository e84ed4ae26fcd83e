"""Samples of the made world that several tests look at."""

from __future__ import annotations

import pytest

from made_world.scenes.pictures import MadePicture, corpus_picture, scene_picture


@pytest.fixture(scope="session")
def corpus_sample() -> list[MadePicture]:
    """400 pictures of a corpus."""
    return [corpus_picture(21, number) for number in range(400)]


@pytest.fixture(scope="session")
def scene_sample() -> list[MadePicture]:
    """120 scenes."""
    return [scene_picture(21, number) for number in range(120)]
