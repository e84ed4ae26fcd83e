"""Samples of the made world that several tests share."""

from __future__ import annotations

import pytest

from made_world.scenes.composing import MadeImage
from made_world.scenes.hard import hard_image
from made_world.scenes.images import corpus_image, scene_image


@pytest.fixture(scope="session")
def corpus_sample() -> list[MadeImage]:
    """400 images of a corpus."""
    return [corpus_image(21, number) for number in range(400)]


@pytest.fixture(scope="session")
def scene_sample() -> list[MadeImage]:
    """120 scenes."""
    return [scene_image(21, number) for number in range(120)]


@pytest.fixture(scope="session")
def hard_sample() -> list[MadeImage]:
    """300 images of a hard corpus."""
    return [hard_image(21, number) for number in range(300)]
