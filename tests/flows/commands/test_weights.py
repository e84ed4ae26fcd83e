"""The `zutis weights` commands: what they print, and which errors they let through."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest
import skimage
import torch

from flows.commands import weights as weights_commands
from storage.errors.exceptions import CorpusError, WeightsError
from storage.weights.files import sha256_of
from storage.weights.hub_folders import (
    HubFile,
    HubRecord,
    hub_folder,
    is_hub_folder,
    write_hub_record,
)
from storage.weights.model_folders import open_model_folder
from storage.weights.registry import SELFMASK, ZUTIS, parse_clip, published
from storage.weights.shipped import SHIPPED
from tests.support.networks.siglip import write_siglip
from tests.support.runs.command_line import said
from zutis_model.saliency.selfmask import load_selfmask


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache"
    path.mkdir()
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(path))
    monkeypatch.setenv("COLUMNS", "160")
    return path


def run(*arguments: str) -> str:
    return said("weights", *arguments)


def test_list_tells_what_is_here(folder):
    torch.save({"a": torch.ones(1)}, folder / "selfmask_nq20.pt")
    rows = {line.split()[1]: line for line in run("list").splitlines() if line.startswith("│")}
    assert "MB" in rows["nq20"]
    assert " no " in rows["nq10"]
    assert " no " in rows["ViT-B-32-quickgelu:openai"]
    assert str(folder) in run("list")


def test_fetch_prints_the_path(monkeypatch, folder):
    monkeypatch.setattr(
        weights_commands, "fetch", lambda name, source: folder / f"{name}{source}.pt"
    )
    assert run("fetch", "nq20").strip() == f"nq20: {folder / 'nq20.pt'}"
    assert run("fetch", "nq20", "--from", "disk").strip() == f"nq20: {folder / 'nq20disk.pt'}"


def test_fetch_lets_errors_through():
    with pytest.raises(WeightsError, match="no published weights 'nq30'"):
        run("fetch", "nq30")


def rows_of_list() -> dict[str, list[str]]:
    """The list's cells by name."""
    lines = (line for line in run("list").splitlines() if line.startswith("│"))
    cells = ([cell.strip() for cell in line.strip("│").split("│")] for line in lines)
    return {name: rest for name, *rest in cells}


def test_list_tells_the_models_apart_and_what_each_is_for():
    rows = rows_of_list()
    found = {name: tuple(cells[:2]) for name, cells in rows.items()}
    expected = {
        "nq20": ("SelfMask", "build (default)"),
        "demo": ("SelfMask", "build"),
        "coco_vit_b_16": ("ZUTIS", "predict, evaluate"),
        "ViT-L-14-336-quickgelu:openai": ("CLIP", "build (default), search, train"),
        "ViT-B-16-quickgelu:openai": ("CLIP", "build, search, train (default)"),
        "ViT-B-32-quickgelu:openai": ("CLIP", "build, search, train"),
        "made-ViT-8:demo": ("CLIP", "build, search, train"),
        "ViT-B-16-SigLIP2:webli": ("SigLIP", "build, search"),
        "ViT-SO400M-14-SigLIP-384:webli": ("SigLIP", "build, search"),
    }
    assert {name: found.get(name) for name in expected} == expected


def test_names_in_the_list_can_be_copied_from_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert "ViT-SO400M-16-SigLIP2-384:webli" in rows_of_list()


def test_list_has_the_defaults_of_the_settings():
    from flows.settings.build import BuildSettings
    from flows.settings.training import TrainingSettings

    defaults = {name for name, cells in rows_of_list().items() if "(default)" in cells[1]}
    settings = BuildSettings(corpus=("x",), vocabulary="x")
    assert defaults == {settings.clip, settings.selfmask, TrainingSettings().clip}


def test_list_offers_only_what_can_be_fetched_or_is_here():
    for name in rows_of_list():
        if name not in {*SHIPPED, *SELFMASK, *ZUTIS}:
            spec = parse_clip(name)
            assert hub_folder(spec) if is_hub_folder(spec) else published(name)


def test_a_model_of_the_hub_is_listed_and_checked_with_what_it_does(folder):
    name, place = "hf-hub:someone/tiny", folder / "models" / "hf-hub--someone--tiny"
    write_siglip(place)
    model = open_model_folder(place, sha256_of)
    files = {file: HubFile(sha256=digest, url=None) for file, digest in model.files.items()}
    write_hub_record(HubRecord(name=name, files=files))
    [_, purposes, presence] = rows_of_list()[name]
    assert (purposes, presence) == ("build, search", "1.9 MB")

    photograph = Path(skimage.__file__).parent / "data" / "rocket.jpg"
    for asked, status in ((name, "ok"), (str(place), "unrecorded")):
        output = run("check", asked, "--image", str(photograph))
        assert f"{asked}: SigLIP (test_vit, 160 x 160 pixels, 16 tokens)" in output
        assert f"sha256: {model.digest} ({status})" in output
        assert "loads strictly: all of" in output
        assert "rocket.jpg: an embedding of 64 numbers, norm 1.000" in output


def test_check(folder):
    assert "No weights in" in run("check")
    path = folder / "selfmask_nq20.pt"
    torch.save({"a": torch.ones(1)}, path)
    assert "ok" in run("check")
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"nq20 \(changed: .*weights fetch nq20"):
        run("check")
    with pytest.raises(WeightsError, match="missing"):
        run("check", "nq10")


@pytest.fixture(scope="module")
def selfmask_file(tmp_path_factory) -> Path:
    """A checkpoint in the published format, with synthetic weights."""
    path = tmp_path_factory.mktemp("weights") / "selfmask.pt"
    torch.save(load_selfmask().state_dict(), path)
    return path


@pytest.mark.slow
def test_check_of_a_file_tells_model_digest_and_what_it_does(selfmask_file):
    photograph = Path(skimage.__file__).parent / "data" / "rocket.jpg"
    output = run("check", str(selfmask_file), "--image", str(photograph))
    assert f"{selfmask_file}: SelfMask (ViT-S/8, 20 queries)" in output
    digest = hashlib.sha256(selfmask_file.read_bytes()).hexdigest()
    assert f"sha256: {digest} (unrecorded)" in output
    assert "loads strictly: all of 267 tensors" in output
    assert re.search(r"rocket\.jpg: a mask over \d+\.\d%, objectness 0\.\d+", output)


def test_check_of_a_name_does_so_too(selfmask_file, folder):
    shutil.copy(selfmask_file, folder / "selfmask_nq20.pt")
    output = run("check", "nq20")
    assert "nq20: SelfMask (ViT-S/8, 20 queries)" in output
    assert "(ok)" in output


def test_check_names_what_does_not_fit(tmp_path, selfmask_file):
    weights = torch.load(selfmask_file, weights_only=True)
    weights["stray"] = weights.pop("decoder.norm.bias")
    torch.save(weights, tmp_path / "broken.pt")
    message = r"broken\.pt seems to be SelfMask .* 1 missing \(decoder\.norm\.bias\); 1 unexpected"
    with pytest.raises(WeightsError, match=message):
        run("check", str(tmp_path / "broken.pt"))
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt is of no known model.* begin with a\."):
        run("check", str(tmp_path / "other.pt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "can't be read"), (b"no picture", "can't be used")],
)
def test_check_on_a_bad_picture(content, message, tmp_path, selfmask_file):
    picture = tmp_path / "picture.jpg"
    if content is not None:
        picture.write_bytes(content)
    with pytest.raises(CorpusError, match=f"picture.jpg {message}"):
        run("check", str(selfmask_file), "--image", str(picture))
