"""Models in folders: their files, their digest, and refused folders."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.errors.exceptions import WeightsError
from storage.weights.files import sha256_of
from storage.weights.model_folders import ModelFolder, open_model_folder, tokenizer_files
from storage.weights.open_clip_configs import architecture_config, architecture_of, has_patch_tokens
from storage.weights.registry import ClipSpec, parse_clip
from storage.weights.resolving import check, resolve
from tests.support.networks.siglip import CONFIG as SIGLIP
from tests.support.networks.siglip import siglip_config

FILES = {
    "open_clip_config.json": json.dumps(SIGLIP).encode(),
    "open_clip_model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b'{"a": 1}',
    "README.md": b"words",
    "model.safetensors.index.json": b"{}",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "siglip"
    path.mkdir()
    for name, content in FILES.items():
        (path / name).write_bytes(content)
    return path


def opened(folder: Path) -> ModelFolder:
    return open_model_folder(folder, sha256_of)


def write_config(folder: Path, config: object) -> None:
    (folder / "open_clip_config.json").write_text(json.dumps(config))


# --- specs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "architecture", "weights"),
    [
        ("local-dir:siglip", "local-dir", "siglip"),
        ("local-dir:/a:b/c", "local-dir", "/a:b/c"),
        ("/data/siglip", "local-dir", "/data/siglip"),
        ("/a:b/c", "local-dir", "/a:b/c"),
        ("./siglip", "local-dir", "./siglip"),
        ("~/siglip", "local-dir", "~/siglip"),
        ("models/siglip", "local-dir", "models/siglip"),
        ("hf-hub:timm/ViT-B-16-SigLIP2", "hf-hub", "timm/ViT-B-16-SigLIP2"),
        ("ViT-B-16-SigLIP2:WebLI", "ViT-B-16-SigLIP2", "webli"),
    ],
)
def test_specs(spec, architecture, weights):
    parsed = parse_clip(spec)
    assert parsed == ClipSpec(architecture=architecture, weights=weights)
    assert parse_clip(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("local-dir:", "names no folder"),
        ("hf-hub:", "names no repository; write hf-hub:OWNER/NAME"),
        ("hf-hub:timm", "names no repository"),
        ("hf-hub:../../etc", "names no repository"),
        ("hf-hub:a/b/c", "names no repository"),
        (
            "ViT-B-16-SigLIP2",
            "write ARCH:WEIGHTS, such as ViT-B-16-SigLIP2:webli",
        ),
        ("ViT-B-16-SigLIP2:random:0", "no tokenizer in the package"),
        ("ViT-B-16-SigLIP2:a.safetensors", "no tokenizer in the package"),
        ("xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k", "text tower is xlm-roberta-base"),
        ("roberta-ViT-B-32:random:0", "text tower is roberta-base"),
    ],
)
def test_specs_that_cannot_work_are_refused_before_any_file_is_looked_for(spec, expected):
    with pytest.raises(WeightsError) as caught:
        parse_clip(spec)
    assert expected in str(caught.value)


def test_a_folder_resolves_without_torch(folder):
    code = f"""
import sys
from storage.weights.resolving import resolve
from storage.weights.registry import parse_clip
resolve(parse_clip({str(folder)!r}))
parse_clip("ViT-B-16-SigLIP2:webli")
assert not {{"torch", "open_clip", "transformers"}} & set(sys.modules), "imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- what belongs to a model --------------------------------------------------------------------


def test_a_model_is_its_configuration_weights_and_tokenizer(folder):
    found = opened(folder)
    assert found.weights == folder / "open_clip_model.safetensors"
    assert found.config["embed_dim"] == 64
    assert sorted(found.files) == [
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert found.files["open_clip_model.safetensors"] == hashlib.sha256(b"weights").hexdigest()
    resolved = resolve(parse_clip(str(folder)))
    assert (resolved.kind, resolved.path, resolved.folder) == ("folder", found.weights, folder)
    assert (resolved.digest, resolved.untrained) == (found.digest, False)
    assert (resolved.label, resolved.architecture) == (f"local-dir:{folder}", "test_vit")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("open_clip_model.safetensors", b"other"),
        ("tokenizer.json", b"[]"),
        ("special_tokens_map.json", b"{}"),
        ("spiece.model", b"pieces"),
        (
            "open_clip_config.json",
            json.dumps(siglip_config(lambda c: c["preprocess_cfg"].update(std=[1, 1, 1]))).encode(),
        ),
        (
            "open_clip_config.json",
            json.dumps(
                siglip_config(lambda c: c["model_cfg"]["text_cfg"].update(context_length=8))
            ).encode(),
        ),
    ],
)
def test_the_digest_covers_all_that_decides_embeddings(name, content, folder):
    before = opened(folder).digest
    (folder / name).write_bytes(content)
    assert opened(folder).digest != before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README.md", b"other words"),
        ("open_clip_pytorch_model.bin", b"the same weights, once more"),
        ("open_clip_config.json", json.dumps({**SIGLIP, "note": 1}, indent=2).encode()),
    ],
)
def test_the_digest_covers_nothing_else(name, content, folder):
    before = opened(folder).digest
    (folder / name).write_bytes(content)
    assert opened(folder).digest == before


def test_the_digest_does_not_depend_on_the_path(folder, tmp_path):
    before = opened(folder).digest
    assert opened(folder.rename(tmp_path / "elsewhere")).digest == before


def test_clips_own_tokenizer_needs_no_files(folder):
    write_config(
        folder, siglip_config(lambda c: c["model_cfg"]["text_cfg"].pop("hf_tokenizer_name"))
    )
    assert sorted(opened(folder).files) == ["open_clip_config.json", "open_clip_model.safetensors"]


def test_links_as_the_hubs_cache_has_them_are_followed(folder, tmp_path):
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for name in FILES:
        (linked / name).symlink_to(folder / name)
    assert opened(linked).digest == opened(folder).digest


def test_files_of_tokenizers():
    names = ["a/tokenizer.json", "vocab.txt", "tokenizer.model", "x.safetensors", "evil.py"]
    assert tokenizer_files([*names, *FILES]) == [
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.txt",
    ]


# --- what is refused ----------------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match=r"There is no folder .*gone"):
        resolve(parse_clip(str(tmp_path / "gone")))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("open_clip_config.json", "has no open_clip_config.json"),
        ("open_clip_model.safetensors", "has no weights: put open_clip_model.safetensors"),
        ("tokenizer.json", "has no tokenizer, .* put the files of nobody/tiny-siglip"),
    ],
)
def test_a_part_that_is_missing_is_named(name, expected, folder):
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=expected):
        resolve(parse_clip(str(folder)))


def test_weights_by_any_name_if_they_are_the_only_ones(folder):
    (folder / "open_clip_model.safetensors").rename(folder / "mine.safetensors")
    assert opened(folder).weights.name == "mine.safetensors"
    (folder / "yours.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"several files of weights \(mine.*, yours.bin\)"):
        opened(folder)


@pytest.mark.parametrize(
    "config", [[], {}, {"model_cfg": {"text_cfg": {}}}, {"model_cfg": {"vision_cfg": 1}}]
)
def test_a_configuration_of_no_model(config, folder):
    write_config(folder, config)
    with pytest.raises(WeightsError, match="describes no model"):
        opened(folder)


def test_a_configuration_that_is_no_json(folder):
    (folder / "open_clip_config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"open_clip_config\.json can't be read"):
        opened(folder)


def test_a_text_tower_that_would_be_downloaded(folder):
    write_config(
        folder, siglip_config(lambda c: c["model_cfg"]["text_cfg"].update(hf_model_name="who/xlm"))
    )
    with pytest.raises(WeightsError, match="has who/xlm for its text tower"):
        opened(folder)


# --- checking -----------------------------------------------------------------------------------


def test_check_of_a_folder(folder):
    (result,) = check(str(folder))
    assert (result.status, result.path, result.sha256) == (
        "unrecorded", folder, opened(folder).digest
    )  # fmt: skip


def test_check_reads_the_bytes_of_a_folder_and_not_the_memory(folder):
    before = resolve(parse_clip(str(folder))).digest
    path = folder / "tokenizer.json"
    status = path.stat()
    path.write_bytes(b"[]")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (result,) = check(str(folder))
    assert result.sha256 != before


# --- configurations -----------------------------------------------------------------------------


def test_architectures_are_known_again_by_their_configuration():
    for name in ("ViT-B-16-SigLIP2", "ViT-B-32-quickgelu", "made-ViT-8"):
        assert architecture_of(architecture_config(name)) == name
    assert architecture_of(SIGLIP["model_cfg"]) == "test_vit"


def test_trainable_architectures():
    dense = {"ViT-B-16-quickgelu": True, "RN50": True, "ViT-B-16-SigLIP2": False,
             "convnext_base": False, "coca_ViT-B-32": False}  # fmt: skip
    assert {name: has_patch_tokens(architecture_config(name)) for name in dense} == dense
