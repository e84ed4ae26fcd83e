"""Parity fixtures, inputs made from seeds, and networks that several tests share."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zutis_model.clip.towers import Clip, load_clip
from zutis_model.saliency.selfmask import SelfMask, load_selfmask

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for a network of published size is slow: it takes seconds."""
    for item in items:
        if {"clip_b32", "selfmask"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def parity_json() -> Callable[[str], Any]:
    """Reads `NAME.json`."""
    return lambda name: json.loads((PARITY / f"{name}.json").read_text())


@pytest.fixture(scope="session")
def parity_arrays() -> Callable[[str], dict[str, np.ndarray]]:
    """Reads `NAME.npz`."""

    def read(name: str) -> dict[str, np.ndarray]:
        with np.load(PARITY / f"{name}.npz") as arrays:
            return dict(arrays)

    return read


@pytest.fixture(scope="session")
def make_image() -> Callable[[int, int, int], np.ndarray]:
    """The fixtures' images: smooth colour waves and noise, uint8 [h, w, 3]."""

    def make(seed: int, h: int, w: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y = (np.arange(h) / h)[:, None, None]
        x = (np.arange(w) / w)[None, :, None]
        image = np.full((h, w, 3), 128.0)
        for _ in range(6):  # the order of the draws matters
            fy, fx = rng.uniform(-3.0, 3.0, 2)
            phase = rng.uniform(0.0, 2 * np.pi, 3)
            amplitude = rng.uniform(10.0, 35.0, 3)
            image = image + amplitude * np.sin(2 * np.pi * (fy * y + fx * x) + phase)
        image = image + rng.normal(0.0, 10.0, (h, w, 3))
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def unit_rows() -> Callable[[str, int, int], np.ndarray]:
    """The fixtures' text embeddings: float32 [n, d], rows of norm 1."""

    def make(name: str, n: int, d: int) -> np.ndarray:
        z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal((n, d))
        return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def selfmask() -> SelfMask:
    return load_selfmask()


@pytest.fixture(scope="session")
def clip_b32() -> Clip:
    return load_clip("ViT-B-32-quickgelu")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to connect fails the test."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def _isolated_random_state() -> None:
    torch.manual_seed(0)
