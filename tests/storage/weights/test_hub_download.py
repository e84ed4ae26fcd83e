"""Models of the hub over loopback: downloaded, pinned, and then used without a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from storage.errors.exceptions import WeightsError
from storage.weights.download import fetch
from storage.weights.files import sha256_of
from storage.weights.hub_folders import hub_folder, is_hub_folder
from storage.weights.model_folders import open_model_folder
from storage.weights.registry import parse_clip
from storage.weights.resolving import cached_weights, check, resolve
from tests.support.networks.siglip import CONFIG as SIGLIP
from tests.support.networks.siglip import siglip_config
from tests.support.servers.bad_server import hurried
from tests.support.servers.loopback import Server, serving, unreachable_url

NAME = "hf-hub:someone/tiny"
WEIGHTS = save({"a": torch.ones(2)})
FILES = {
    "open_clip_config.json": json.dumps(SIGLIP).encode(),
    "open_clip_model.safetensors": WEIGHTS,
    "model.safetensors": b"of transformers",
    "README.md": b"words",
    "modeling.py": b"raise SystemExit",
}
TOKENIZER = {"tokenizer.json": b"{}", "tokenizer_config.json": b'{"a": 1}', "config.json": b"{}"}


@pytest.fixture(autouse=True)
def without_sleeps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with hurried(monkeypatch):
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which does not exist yet."""
    path = tmp_path / "cache"
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(path))
    return path


def publish(server: Server, repository: str, files: dict[str, bytes], revision: str = "r1") -> None:
    """Serve a repository as the hub does: large files are listed with their sha256."""
    siblings = [
        {"rfilename": name, "blobId": "…"}
        | ({"lfs": {"sha256": hashlib.sha256(content).hexdigest()}} if "model" in name else {})
        for name, content in files.items()
    ]
    listing = {"id": repository, "sha": revision, "siblings": siblings}
    server.files[f"/api/models/{repository}?blobs=true"] = json.dumps(listing).encode()
    for name, content in files.items():
        server.files[f"/{repository}/resolve/{revision}/{name}"] = content


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A hub with one model, whose tokenizer is in another repository."""
    with serving() as server:
        publish(server, "someone/tiny", FILES)
        publish(server, "nobody/tiny-siglip", TOKENIZER, "t1")
        monkeypatch.setenv("HF_ENDPOINT", server.url("/"))
        yield server


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.part")]


def test_a_repository_is_fetched_with_its_tokenizer_and_pinned(hub, cache):
    folder = fetch(NAME)
    assert folder == cache / "models" / "hf-hub--someone--tiny"
    expected = {
        "open_clip_config.json": FILES["open_clip_config.json"],
        "open_clip_model.safetensors": WEIGHTS,
        **TOKENIZER,
    }
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected
    record = json.loads((cache / "models" / "hf-hub--someone--tiny.json").read_text())
    assert record["name"] == NAME
    assert record["files"]["tokenizer.json"] == {
        "sha256": hashlib.sha256(b"{}").hexdigest(),
        "url": hub.url("/nobody/tiny-siglip/resolve/t1/tokenizer.json"),
    }
    assert record["files"].keys() == expected.keys()
    assert left_over(cache) == []


def test_fetched_models_need_no_network(hub, cache):
    folder = fetch(NAME)
    asked = len(hub.asked)
    hub.files.clear()
    resolved = resolve(parse_clip(NAME))
    assert (resolved.kind, resolved.folder, resolved.label) == ("folder", folder, NAME)
    assert resolved.digest == open_model_folder(folder, sha256_of).digest
    assert fetch(NAME) == folder
    assert cached_weights() == {NAME: folder}
    assert [(result.name, result.status) for result in check()] == [(NAME, "ok")]
    assert len(hub.asked) == asked


def test_a_model_fetched_and_a_copy_of_its_folder_are_one(hub, tmp_path):
    fetch(NAME)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in (FILES | TOKENIZER).items():
        (copy / name).write_bytes(content)
    fetched, local = resolve(parse_clip(NAME)), resolve(parse_clip(str(copy)))
    assert (fetched.digest, fetched.architecture) == (local.digest, local.architecture)


def test_a_tag_has_open_clips_configuration_and_preprocessing(hub, cache):
    publish(hub, "timm/ViT-B-16-SigLIP2", {"open_clip_model.safetensors": WEIGHTS, **TOKENIZER})
    folder = fetch("ViT-B-16-SigLIP2:webli")
    assert folder == cache / "models" / "ViT-B-16-SigLIP2--webli"
    config = json.loads((folder / "open_clip_config.json").read_text())
    assert config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] == {"clean": "canonicalize"}
    assert config["preprocess_cfg"] == {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    resolved = resolve(parse_clip("ViT-B-16-SigLIP2:webli"))
    assert resolved.architecture == "ViT-B-16-SigLIP2"
    (folder / "open_clip_config.json").write_text("{}")
    fetch("ViT-B-16-SigLIP2:webli")
    assert resolve(parse_clip("ViT-B-16-SigLIP2:webli")) == resolved


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_never_used_and_fetched_again_from_where_it_came(name, hub, cache):
    folder = fetch(NAME)
    publish(hub, "someone/tiny", {**FILES, "README.md": b"newer"}, "r2")
    (folder / name).write_bytes(b"{ }")
    with pytest.raises(WeightsError, match=rf"damaged or changed: .*{name}.*weights fetch {NAME}"):
        resolve(parse_clip(NAME))
    assert [(result.status, result.path) for result in check()] == [("changed", folder / name)]
    before = len(hub.asked)
    fetch(NAME)
    assert len(hub.asked) == before + 1
    assert check()[0].status == "ok"
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=rf"has lost .*{name}"):
        resolve(parse_clip(NAME))
    assert [result.status for result in check()] == ["missing"]


def test_a_file_added_later_is_reported(hub):
    (fetch(NAME) / "added_tokens.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"damaged or changed: .*added_tokens\.json"):
        resolve(parse_clip(NAME))


def test_other_bytes_than_recorded_or_listed_are_refused(hub, cache):
    hub.files["/someone/tiny/resolve/r1/open_clip_model.safetensors"] = WEIGHTS + b"x"
    with pytest.raises(WeightsError, match=r"open_clip_model\.safetensors \(it serves other bytes"):
        fetch(NAME)
    with pytest.raises(WeightsError, match="is not on this machine"):
        resolve(parse_clip(NAME))
    hub.files["/someone/tiny/resolve/r1/open_clip_model.safetensors"] = WEIGHTS
    folder = fetch(NAME)
    (folder / "tokenizer.json").unlink()
    hub.files["/nobody/tiny-siglip/resolve/t1/tokenizer.json"] = b"[]"
    with pytest.raises(WeightsError, match=r"tokenizer\.json \(it serves other bytes"):
        fetch(NAME)
    assert left_over(cache) == []


def test_a_fetch_that_is_cut_short_leaves_no_model(hub, cache):
    hub.cut_short = True
    with pytest.raises(WeightsError, match=r"can't be fetched: .*the connection ended after"):
        fetch(NAME)
    assert cached_weights() == {}
    assert left_over(cache) == []


def test_a_hub_that_cannot_be_reached(monkeypatch, cache):
    monkeypatch.setenv("HF_ENDPOINT", unreachable_url(""))
    with pytest.raises(WeightsError, match=r"can't be reached.*give its folder as --clip local"):
        fetch(NAME)
    assert not cache.exists()


def test_the_error_of_an_unfetched_model_says_what_to_do(cache):
    for name, repository in ((NAME, "someone/tiny"), ("ViT-B-16-SigLIP2:webli", "timm/ViT-B-16-")):
        with pytest.raises(WeightsError) as caught:
            resolve(parse_clip(name))
        text = str(caught.value)
        assert f"zutis weights fetch {name}" in text
        assert f"https://huggingface.co/{repository}" in text
        assert "--clip local-dir:FOLDER" in text
    assert [result.status for result in check(NAME)] == ["missing"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config.json": b"{}", "model.safetensors": b"w"}, "has no open_clip_config.json"),
        (
            {"open_clip_config.json": FILES["open_clip_config.json"]},
            "has no weights that open_clip",
        ),
        ({"open_clip_config.json": b"<html>"}, "its open_clip_config.json is no JSON"),
        (
            {
                "open_clip_config.json": json.dumps(
                    siglip_config(lambda c: c["model_cfg"]["text_cfg"].update(hf_model_name="x/y"))
                ).encode()
            },
            "has x/y for its text tower",
        ),
        (
            {
                "open_clip_config.json": FILES["open_clip_config.json"],
                "open_clip_model.safetensors": b"<html>please log in</html>",
            },
            "serves something that is not a file of weights",
        ),
    ],
)
def test_repositories_that_open_clip_could_not_load(files, expected, hub):
    publish(hub, "someone/tiny", files)
    with pytest.raises(WeightsError) as caught:
        fetch(NAME)
    assert expected in str(caught.value)
    assert cached_weights() == {}


def test_a_repository_without_a_tokenizer(hub):
    publish(hub, "nobody/tiny-siglip", {"config.json": b"{}"}, "t1")
    with pytest.raises(WeightsError, match="has no tokenizer"):
        fetch(NAME)


def test_clips_own_tokenizer_is_not_fetched(hub):
    config = siglip_config(lambda c: c["model_cfg"]["text_cfg"].pop("hf_tokenizer_name"))
    publish(
        hub,
        "someone/clip",
        {
            "open_clip_config.json": json.dumps(config).encode(),
            "open_clip_pytorch_model.bin": WEIGHTS,
            **TOKENIZER,
        },
    )
    folder = fetch("hf-hub:someone/clip")
    assert sorted(path.name for path in folder.iterdir()) == [
        "open_clip_config.json", "open_clip_pytorch_model.bin"
    ]  # fmt: skip


def test_a_damaged_record(hub, cache):
    fetch(NAME)
    (cache / "models" / "hf-hub--someone--tiny.json").write_text("{")
    with pytest.raises(WeightsError, match=r"tiny\.json can't be read.*delete it"):
        resolve(parse_clip(NAME))


def test_unknown_tags_name_those_that_there_are():
    for ask in (fetch, lambda name: resolve(parse_clip(name)), check):
        with pytest.raises(WeightsError, match=r"no published weights 'nonsense'.*it has webli"):
            ask("ViT-B-16-SigLIP2:nonsense")


def test_every_tag_with_a_tokenizer_of_the_hub_can_be_fetched_whole():
    from open_clip import pretrained

    from storage.weights.open_clip_configs import architecture_config, hub_text_tower, hub_tokenizer

    found = 0
    for architecture, tag in pretrained.list_pretrained():
        config = architecture_config(architecture)
        if not hub_tokenizer(config) or hub_text_tower(config):
            continue
        spec = parse_clip(f"{architecture}:{tag}")
        assert is_hub_folder(spec)
        if "quickgelu" in architecture or not pretrained.get_pretrained_cfg(architecture, tag).get(
            "quick_gelu"
        ):
            model = hub_folder(spec)
            assert model.config is not None
            assert model.config["preprocess_cfg"].keys() >= {"mean", "std", "resize_mode"}
            found += 1
    assert found > 30


def prepared_otherwise() -> set[str]:
    """Tags of open_clip with CLIP's own tokenizer and another preprocessing than OpenAI's."""
    from dataclasses import asdict

    from open_clip import pretrained
    from open_clip.transform import PreprocessCfg

    from storage.weights.open_clip_configs import architecture_config, hub_tokenizer

    usual = asdict(PreprocessCfg())
    found = set()
    for architecture, tag in pretrained.list_pretrained():
        entry = pretrained.get_pretrained_cfg(architecture, tag)
        has_own_tokenizer = not hub_tokenizer(architecture_config(architecture))
        is_advised_against = entry.get("quick_gelu") and not architecture.endswith("-quickgelu")
        if has_own_tokenizer and not is_advised_against:
            others = [name for name in usual.keys() & entry.keys() if entry[name] != usual[name]]
            found |= {f"{architecture}:{tag}"} if others else set()
    return found


def test_tags_that_are_prepared_otherwise_are_kept_with_their_preprocessing():
    found = prepared_otherwise()
    folders = {name for name in found if is_hub_folder(parse_clip(name))}
    assert found == folders
    assert "ViT-L-14:laion2b_s32b_b82k" in folders
    assert "PE-Core-B-16:meta" in folders
    model = hub_folder(parse_clip("PE-Core-B-16:meta"))
    assert model.config is not None
    assert model.config["preprocess_cfg"]["mean"] == (0.5, 0.5, 0.5)


def test_no_other_tag_is_kept_as_a_folder():
    from open_clip import pretrained

    from storage.weights.hub_folders import PREPARED_OTHERWISE

    assert prepared_otherwise() >= PREPARED_OTHERWISE
    for name in ("ViT-B-32-quickgelu:openai", "ViT-L-14-336-quickgelu:openai", "made-ViT-8:demo"):
        assert not is_hub_folder(parse_clip(name))
    laion = [f"{a}:{t}" for a, t in pretrained.list_pretrained() if t.startswith("laion")]
    others = PREPARED_OTHERWISE.union(
        name for name in laion if "CLIPA" in name or "roberta" in name
    )
    plain = [name for name in laion if name not in others]
    assert len(plain) > 20
    assert not any(is_hub_folder(parse_clip(name)) for name in plain)


def test_a_model_comes_from_a_folder_of_repositories(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", unreachable_url("/"))
    for repository, files in (("someone/tiny", FILES), ("nobody/tiny-siglip", TOKENIZER)):
        (tmp_path / "disk" / repository).mkdir(parents=True)
        for name, content in files.items():
            (tmp_path / "disk" / repository / name).write_bytes(content)
    folder = fetch(NAME, source=str(tmp_path / "disk"))
    assert {path.name for path in folder.iterdir()} == {
        "open_clip_config.json", "open_clip_model.safetensors", *TOKENIZER
    }  # fmt: skip
    assert resolve(parse_clip(NAME)).folder == folder
    assert fetch(NAME) == folder


def test_a_model_comes_from_one_folder_with_all_its_files(cache, tmp_path):
    for name, content in (FILES | TOKENIZER).items():
        (tmp_path / name).write_bytes(content)
    folder = fetch(NAME, source=str(tmp_path))
    assert (folder / "tokenizer.json").read_bytes() == TOKENIZER["tokenizer.json"]


def test_a_model_comes_from_a_mirror_of_the_hub(hub, cache, monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT")
    assert (fetch(NAME, source=hub.url("/")) / "tokenizer.json").read_bytes() == b"{}"


def test_a_folder_without_the_model_is_an_error(cache, tmp_path):
    (tmp_path / "disk").mkdir()
    with pytest.raises(WeightsError, match="has no folder someone/tiny"):
        fetch(NAME, source=str(tmp_path / "disk"))
