"""The `zutis weights` commands: what they print, and which errors they let through."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from flows import weights_commands
from flows.weights_commands import weights_app
from storage.errors import WeightsError


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


def test_check(folder):
    assert "No weights in" in run("check")
    path = folder / "selfmask_nq20.pt"
    torch.save({"a": torch.ones(1)}, path)
    assert "ok" in run("check")
    assert "unrecorded" in run("check", str(path))
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"nq20 \(changed: .*weights fetch nq20"):
        run("check")
    with pytest.raises(WeightsError, match="missing"):
        run("check", "nq10")
