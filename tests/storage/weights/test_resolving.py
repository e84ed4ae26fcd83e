"""Weights: specs, the registry, and the cache folder with its records."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from storage.errors.exceptions import WeightsError
from storage.weights import files, resolving
from storage.weights.registry import (
    _PINS,
    ClipSpec,
    SelfMaskSpec,
    clip_architectures,
    parse_clip,
    parse_selfmask,
    published,
)
from storage.weights.resolving import cached_weights, check, resolve
from storage.weights.shipped import SHIPPED

TENSORS = {"a.weight": torch.arange(4.0), "b": torch.ones(2, 2, dtype=torch.float16)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which does not exist yet."""
    path = tmp_path / "cache"
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(path))
    return path


@pytest.fixture
def payload(tmp_path: Path) -> bytes:
    torch.save(TENSORS, tmp_path / "payload.pt")
    return (tmp_path / "payload.pt").read_bytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- specs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "architecture", "value"),
    [
        ("ViT-B-32-quickgelu:openai", "ViT-B-32-quickgelu", "openai"),
        ("ViT-B-32:openai", "ViT-B-32-quickgelu", "openai"),
        ("ViT-B-32:laion2B-s34B-b79K", "ViT-B-32", "laion2b_s34b_b79k"),
        ("ViT-B-32:random:0", "ViT-B-32", "random:0"),
        ("ViT-B-32:here.SafeTensors", "ViT-B-32", "here.SafeTensors"),
        ("ViT-B-32:/a:b/c", "ViT-B-32", "/a:b/c"),
    ],
)
def test_parse_clip(spec, architecture, value):
    parsed = parse_clip(spec)
    assert parsed == ClipSpec(architecture=architecture, weights=value)
    assert parse_clip(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("ViT-B/32:openai", "the nearest are ViT-B-32"),
        ("vit-b-32:openai", "ViT-B-32"),
        ("qqq:openai", "of which ViT-B-32-quickgelu, ViT-B-16-quickgelu are the usual ones"),
        ("ViT-B-32", "names no weights"),
        ("ViT-B-32:", "names no weights"),
        ("ViT-B-32:random", "no usable seed"),
        ("ViT-B-32:random:-1", "no usable seed"),
        ("ViT-B-32:random:x", "no usable seed"),
        ("ViT-B-32:random:²", "no usable seed"),
        (f"ViT-B-32:random:{1 << 63}", "no usable seed"),
        ("", "no CLIP architecture ''"),
    ],
)
def test_parse_clip_refuses(spec, expected):
    with pytest.raises(WeightsError) as caught:
        parse_clip(spec)
    assert expected in str(caught.value)


@pytest.mark.parametrize("spec", ["nq20", "nq10", "demo", "random:7", "a/b", "x.pt"])
def test_parse_selfmask(spec):
    assert parse_selfmask(spec) == SelfMaskSpec(weights=spec)


@pytest.mark.parametrize("spec", ["nq30", "", "random", "openai"])
def test_parse_selfmask_refuses(spec):
    with pytest.raises(WeightsError):
        parse_selfmask(spec)


def test_architectures_are_open_clips_and_ours():
    from zutis_model.clip.own_architectures import known_architectures

    assert clip_architectures() == set(known_architectures())
    assert "made-ViT-8" in clip_architectures()


def test_nothing_imports_torch_until_it_must():
    code = """
import sys
from flows.commands import weights
from storage.vocabularies import prompt_templates, vocabulary
from storage.weights import registry, resolving
registry.parse_clip("ViT-B-32:openai")
resolving.resolve(registry.parse_clip("ViT-B-32:random:0"))
registry.parse_clip("made-ViT-8:demo")
registry.published("ViT-B-16:openai")
vocabulary.load_vocabulary("coco")
assert not {"torch", "open_clip"} & set(sys.modules), "imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- the registry -------------------------------------------------------------------------------


def test_openai_pins_agree_with_open_clips_table():
    from open_clip import pretrained

    for name, pin in _PINS.items():
        architecture, tag = name.split(":")
        entry = pretrained.get_pretrained_cfg(architecture, tag)
        assert entry["hf_hub"] == f"{pin.repository}/"
        assert len(pin.sha256) == 64
        (download,) = published(name).downloads
        assert pin.revision in download.url
        assert download.sha256 == pin.sha256


def test_every_published_clip_resolves_to_addresses_or_to_advice():
    from open_clip import pretrained

    for architecture, tag in pretrained.list_pretrained():
        try:
            entry = published(f"{architecture}:{tag}")
        except WeightsError as error:
            assert re.search("QuickGELU|text tower", str(error))  # noqa: PT017 - most don't raise
            continue
        assert entry.downloads[0].suffix == ".safetensors"
        assert all(download.url.startswith("https://") for download in entry.downloads)
        assert all("openaipublic" not in download.url for download in entry.downloads)


def test_hub_files_with_a_name_of_their_own():
    urls = [download.url for download in published("ViTamin-S:datacomp1b").downloads]
    assert urls == [
        "https://huggingface.co/jienengchen/ViTamin-S/resolve/main/pytorch_model.safetensors",
        "https://huggingface.co/jienengchen/ViTamin-S/resolve/main/pytorch_model.bin",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B-32:nonsense", "it has openai, laion400m_e31"),
        ("ViT-B-32:metaclip_400m", "write ViT-B-32-quickgelu:metaclip_400m"),
        ("ViT-B-32-quickgelu:laion2b_s34b_b79k", "it has openai"),
        ("ViT-B-32:random:0", "not a published name"),
        ("made-ViT-8:nonsense", "it has demo"),
        ("made-ViT-8:demo", "part of zutis and need no download"),
        ("demo", "part of zutis and need no download"),
        ("nq30", "known are nq20, nq10, coco_vit_b_16"),
    ],
)
def test_unpublished_names(name, expected):
    with pytest.raises(WeightsError) as caught:
        published(name)
    assert expected in str(caught.value)


# --- resolving ----------------------------------------------------------------------------------


def test_random_weights_are_labelled_untrained(folder):
    resolved = resolve(parse_clip("ViT-B-32:random:5"))
    assert (resolved.kind, resolved.seed, resolved.path) == ("random", 5, None)
    assert resolved.digest == "random:5"
    assert resolved.untrained
    assert resolved.label == "ViT-B-32:random:5 (untrained)"
    assert not folder.exists()


def test_a_file_by_its_path(tmp_path, payload):
    path = tmp_path / "payload.pt"
    resolved = resolve(parse_selfmask(str(path)))
    assert (resolved.kind, resolved.seed, resolved.path) == ("file", None, path)
    assert resolved.digest == sha256(payload)
    assert not resolved.untrained


def test_digest_is_remembered_until_the_file_changes(tmp_path, monkeypatch, payload):
    path = tmp_path / "payload.pt"
    spec = parse_selfmask(str(path))
    hashed = []
    original = files.sha256_of
    monkeypatch.setattr(files, "sha256_of", lambda path: hashed.append(path) or original(path))
    assert resolve(spec) == resolve(spec)
    assert len(hashed) == 1
    path.write_bytes(payload[:9] + payload[:8:-1])  # the same size
    os.utime(path, ns=(1, 1))
    assert resolve(spec).digest == sha256(payload[:9] + payload[:8:-1])
    assert len(hashed) == 2


def test_a_damaged_memory_of_digests_is_rebuilt(tmp_path, folder, payload):
    spec = parse_selfmask(str(tmp_path / "payload.pt"))
    resolve(spec)
    (memory,) = (folder / "digests").iterdir()
    memory.write_text("[]")
    assert resolve(spec).digest == sha256(payload)


def test_resolving_works_where_the_folder_cannot_be_made(tmp_path, monkeypatch, payload):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(tmp_path / "file" / "cache"))
    assert resolve(parse_selfmask(str(tmp_path / "payload.pt"))).digest == sha256(payload)


def test_missing_path(tmp_path):
    with pytest.raises(WeightsError, match=r"no weights file .*gone\.pt"):
        resolve(parse_selfmask(str(tmp_path / "gone.pt")))


def test_the_error_of_missing_weights_names_file_source_and_target(folder):
    with pytest.raises(WeightsError) as caught:
        resolve(parse_clip("ViT-B-32:openai"))
    text = str(caught.value)
    assert str(folder / "ViT-B-32-quickgelu--openai.safetensors") in text
    assert "https://huggingface.co/timm/vit_base_patch32_clip_224.openai/" in text
    assert "zutis weights fetch ViT-B-32-quickgelu:openai" in text

    with pytest.raises(WeightsError) as caught:
        resolve(parse_selfmask("nq20"))
    text = str(caught.value)
    assert str(folder / "selfmask_nq20.pt") in text
    assert "github.com/NoelShin/selfmask/releases/download/v1.0.0/selfmask_nq20.pt" in text
    assert "www.robots.ox.ac.uk" in text


def test_a_file_put_there_by_hand_is_recorded_and_then_holds(folder, payload):
    folder.mkdir()
    path = folder / "selfmask_nq10.pt"
    path.write_bytes(payload)
    assert resolve(parse_selfmask("nq10")).digest == sha256(payload)
    record = json.loads((folder / "selfmask_nq10.json").read_text())
    assert (record["url"], record["sha256"], record["size"]) == (
        None,
        sha256(payload),
        len(payload),
    )
    path.write_bytes(payload + b"x")
    with pytest.raises(WeightsError, match=r"damaged or changed.*weights fetch nq10"):
        resolve(parse_selfmask("nq10"))


def test_a_file_put_there_by_hand_must_have_the_known_digest(folder, payload):
    folder.mkdir()
    (folder / "ViT-B-32-quickgelu--openai.safetensors").write_bytes(payload)
    with pytest.raises(WeightsError, match="is not ViT-B-32-quickgelu:openai"):
        resolve(parse_clip("ViT-B-32:openai"))


def test_a_damaged_record(folder, payload):
    folder.mkdir()
    (folder / "selfmask_nq20.json").write_text("{")
    with pytest.raises(WeightsError, match=r"selfmask_nq20\.json can't be read.*delete it"):
        resolve(parse_selfmask("nq20"))


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("ZUTIS_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.weights_folder().parts[-2:] == ("zutis", "weights")


# --- shipped ------------------------------------------------------------------------------------


@pytest.fixture
def shipped_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path in place of the package's for the demonstration's CLIP; no file is there yet."""
    path = tmp_path / "made-ViT-8.safetensors"
    moved = {name: replace(part, path=path) for name, part in SHIPPED.items()}
    monkeypatch.setattr("storage.weights.shipped.SHIPPED", moved)
    return path


@pytest.mark.parametrize("spec", [parse_clip("made-ViT-8:demo"), parse_selfmask("demo")])
def test_shipped_weights_need_no_record(spec, shipped_file, folder, payload):
    shipped_file.write_bytes(payload)
    resolved = resolve(spec)
    assert (resolved.path, resolved.digest) == (shipped_file, sha256(payload))
    assert resolved.label == str(spec)
    assert not resolved.untrained
    assert list(folder.glob("*.json")) == []
    (result,) = check(str(spec))
    assert (result.status, result.sha256) == ("ok", sha256(payload))
    assert cached_weights() == {}


@pytest.mark.parametrize(
    ("spec", "command"),
    [
        (parse_clip("made-ViT-8:demo"), "zutis demo-train clip"),
        (parse_selfmask("demo"), "zutis demo-train selfmask"),
    ],
)
def test_shipped_weights_that_are_missing(spec, command, shipped_file):
    with pytest.raises(WeightsError, match=f"install zutis again.*`{command}`") as caught:
        resolve(spec)
    assert str(shipped_file) in str(caught.value)
    (result,) = check(str(spec))
    assert (result.status, result.sha256) == ("missing", None)


def test_shipped_files_are_in_the_package():
    assert {part.path.parent for part in SHIPPED.values()} == {
        Path(resolving.__file__).parent / "shipped_weights"
    }


# --- checking -----------------------------------------------------------------------------------


def test_check_of_nothing(folder):
    assert check() == []
    assert [(result.name, result.status) for result in check("nq10")] == [("nq10", "missing")]


def test_check_counts_files_put_there_by_hand(folder, payload):
    folder.mkdir()
    (folder / "selfmask_nq20.pt").write_bytes(payload)
    assert list(cached_weights()) == ["nq20"]
    assert [(result.name, result.status) for result in check()] == [("nq20", "ok")]


def test_check_of_a_path(tmp_path, payload):
    (result,) = check(str(tmp_path / "payload.pt"))
    assert (result.status, result.sha256) == ("unrecorded", sha256(payload))
    with pytest.raises(WeightsError, match="no weights file"):
        check(str(tmp_path / "gone.pt"))
