"""The `zutis weights` commands: what they print, and which errors they let through."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest
import skimage
import torch
from typer.testing import CliRunner

from flows import weights_commands
from flows.weights_commands import weights_app
from storage.errors import CorpusError, WeightsError
from zutis_model.selfmask import load_selfmask


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache"
    path.mkdir()
    monkeypatch.setenv("ZUTIS_WEIGHTS", str(path))
    monkeypatch.setenv("COLUMNS", "160")
    return path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(weights_app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_list_tells_what_is_here(folder):
    torch.save({"a": torch.ones(1)}, folder / "selfmask_nq20.pt")
    rows = {line.split()[1]: line for line in run("list").splitlines() if line.startswith("│")}
    assert "MB" in rows["nq20"]
    assert " no " in rows["nq10"]
    assert " no " in rows["ViT-B-32-quickgelu:openai"]
    assert str(folder) in run("list")


def test_fetch_prints_the_path(monkeypatch, folder):
    monkeypatch.setattr(weights_commands, "fetch", lambda name: folder / f"{name}.pt")
    assert run("fetch", "nq20").strip() == f"nq20: {folder / 'nq20.pt'}"


def test_fetch_lets_errors_through():
    with pytest.raises(WeightsError, match="no published weights 'nq30'"):
        run("fetch", "nq30")


def test_list_tells_the_models_apart():
    rows = {line.split()[1]: line for line in run("list").splitlines() if line.startswith("│")}
    assert "SelfMask" in rows["nq20"]
    assert "ZUTIS" in rows["coco_vit_b_16"]
    assert "CLIP" in rows["ViT-B-32-quickgelu:openai"]


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
    """A checkpoint as published, with the weights of the synthetic recipe."""
    path = tmp_path_factory.mktemp("weights") / "selfmask.pt"
    torch.save(load_selfmask().state_dict(), path)
    return path


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
    message = r"broken\.pt looks like SelfMask .* 1 missing \(decoder\.norm\.bias\); 1 unexpected"
    with pytest.raises(WeightsError, match=message):
        run("check", str(tmp_path / "broken.pt"))
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt is of no model .* begin with a\."):
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
