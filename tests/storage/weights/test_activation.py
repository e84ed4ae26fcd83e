"""Files of weights that were trained with or without QuickGELU."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import ones

from storage.errors.exceptions import WeightsError
from storage.weights import activation, registry
from storage.weights.registry import _Pin, parse_clip
from storage.weights.resolving import Record, resolve, write_record


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(tmp_path / "cache"))
    activation._warn.cache_clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file({"a": ones(3)}, tmp_path / "clip.safetensors")
    return tmp_path / "clip.safetensors"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_known_by_their_digest_are_refused_with_the_other_activation(file, monkeypatch):
    pins = {"ViT-B-32-quickgelu:openai": _Pin(repository="", revision="", sha256=digest(file))}
    monkeypatch.setattr(registry, "_PINS", pins)
    with pytest.raises(
        WeightsError, match=f"trained with QuickGELU: write ViT-B-32-quickgelu:{file}"
    ):
        resolve(parse_clip(f"ViT-B-32:{file}"))
    assert resolve(parse_clip(f"ViT-B-32-quickgelu:{file}")).digest == digest(file)


def test_weights_that_were_fetched_are_known_as_well(file, caplog):
    record = Record(
        name="ViT-B-32:laion2b_s34b_b79k", file="x", url=None, sha256=digest(file), size=1
    )
    write_record("ViT-B-32--laion2b_s34b_b79k", record)
    with pytest.raises(WeightsError, match="trained without QuickGELU: write ViT-B-32:"):
        resolve(parse_clip(f"ViT-B-32-quickgelu:{file}"))
    resolve(parse_clip(f"ViT-B-32:{file}"))
    assert not caplog.records


def test_weights_that_nothing_is_known_of_are_warned_about_once(file, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            resolve(parse_clip(f"ViT-B-32:{file}"))
    [record] = caplog.records
    assert f"it is computed without: if that is wrong, write ViT-B-32-quickgelu:{file}" in (
        record.getMessage()
    )


def test_architectures_with_one_activation_are_not_checked(file, caplog):
    resolve(parse_clip(f"ViT-S-32-alt:{file}"))
    assert not caplog.records
