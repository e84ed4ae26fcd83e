"""Runs of a serving process with roots: they use nothing outside."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from flows.commands import serve
from flows.execution.executors import LocalExecutor
from flows.execution.ray_cluster import _run_part
from flows.pipelines.build import build
from flows.pipelines.training import find_model
from flows.prefect_server.served import Address
from flows.settings.build import BuildSettings
from flows.settings.evaluation import EvaluationSettings, opened_set
from flows.settings.options import changed
from flows.settings.training import TrainingSettings, training_config
from storage.access.roots import ROOTS_VARIABLE, OutsideRootsError, as_setting
from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.files.user_files import MODEL_CONFIG, read_path
from tasks.prediction.checkpoint import DESCRIPTION
from tasks.prediction.stored_model import model_folder
from tests.support.files.coloured_images import write_corpus
from tests.support.runs.builds import settings_of, write_vocabulary


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only root; beside it lies a folder with everything that a build needs."""
    for name in ("inside", "outside"):
        folder = tmp_path / name
        write_corpus(folder / "pictures", ["red", "green"], each=3)
        write_vocabulary(folder / "names.txt", ["red", "green"])
        (folder / "weights.pt").write_bytes(b"PK\x03\x04")
    monkeypatch.setenv(ROOTS_VARIABLE, as_setting([str(tmp_path / "inside")]))
    monkeypatch.chdir(tmp_path / "inside")
    return tmp_path / "inside"


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[None]:
    """The folder outside is unchanged to the byte."""

    def content() -> dict[str, str]:
        files = (path for path in (tmp_path / "outside").rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = content()
    yield
    assert content() == before


def settings(inside: Path) -> BuildSettings:
    made = settings_of("pictures", inside / "names.txt", "store", per_category=2)
    return changed(made, vocabulary="names.txt")


def build_with(settings: BuildSettings):
    return build(settings, LocalExecutor(ArtifactStore(settings.store)))


def test_a_build_inside_works_as_ever(inside: Path, fake_clip, fake_selfmask, monkeypatch):
    made = build_with(settings(inside)).dataset
    monkeypatch.delenv(ROOTS_VARIABLE)
    other = build_with(changed(settings(inside), store="other")).dataset
    assert made.key == other.key
    for name in made.files:
        assert made.files[name]["sha256"] == other.files[name]["sha256"], name


@pytest.mark.parametrize(
    "change",
    [
        {"corpus": ("../outside/pictures",)},
        {"corpus": ("pictures", "../outside/pictures/*/*.jpg")},
        {"corpus": ("link",)},
        {"vocabulary": "../outside/names.txt"},
        {"vocabulary": "link.txt"},
        {"selfmask": "../outside/weights.pt"},
        {"clip": "ViT-B-32:../outside/weights.pt"},
        {"clip": "local-dir:../outside"},
        {"store": "../outside/store"},
        {"store": "link/store"},
        {"store": "memory://outside"},
    ],
    ids=lambda change: "-".join(map(str, next(iter(change.items())))),
)
def test_a_build_that_names_what_is_outside_is_refused(
    change: dict[str, str], inside: Path, untouched: None, fake_clip, fake_selfmask
):
    (inside / "link").symlink_to("../outside")
    (inside / "link.txt").symlink_to("../outside/names.txt")
    with pytest.raises(OutsideRootsError, match="--root"):
        build_with(changed(settings(inside), **change))
    assert not list(inside.rglob("embed_images/*/manifest.json"))


def test_a_link_in_the_corpus_is_counted_and_shown_nowhere(
    inside: Path, untouched: None, fake_clip, fake_selfmask
):
    secret = next((inside.parent / "outside/pictures").rglob("*.jpg"))
    (inside / "pictures/a.jpg").symlink_to(secret)
    (inside / "pictures/b").symlink_to(secret.parent)
    made = build_with(settings(inside))
    assert made.plans[0].counts["rejects"] == {"outside_roots": 2}
    assert made.plans[0].counts["entries"] == 6


def test_evaluations_and_trainings_of_what_is_outside_are_refused(inside: Path, untouched: None):
    for on in ("coco:../outside/a.json", "folder:images+../outside/pictures"):
        with pytest.raises(OutsideRootsError):
            opened_set(EvaluationSettings(on=on))
    with pytest.raises(OutsideRootsError):
        opened_set(EvaluationSettings(on="coca", data="../outside"))
    with pytest.raises(OutsideRootsError):
        find_model(ArtifactStore("store"), "../outside/weights.pt")
    with pytest.raises(OutsideRootsError):
        training_config(TrainingSettings(clip="ViT-B-32:../outside/weights.pt"))


def test_parts_on_other_machines_have_the_roots_too(inside: Path, monkeypatch):
    allowed = os.environ[ROOTS_VARIABLE]
    monkeypatch.setenv(ROOTS_VARIABLE, "")
    with pytest.raises(OutsideRootsError):
        _run_part("scan", None, None, "../outside/store", None, allowed)


def test_a_model_of_a_remote_store_is_read_from_its_copy(inside: Path, monkeypatch):
    monkeypatch.setenv(ROOTS_VARIABLE, as_setting(["memory://models"]))
    store, ref = ArtifactStore("memory://models"), ArtifactRef("train", "key")
    with store.attempt(ref) as attempt:
        attempt.create_json(DESCRIPTION, {"categories": []})
        artifact = store.publish(attempt, Recipe(stage="train", version=1, config={}))
    with model_folder(artifact) as folder:
        assert read_path(folder / DESCRIPTION, MODEL_CONFIG)


def told(allowed: str | None, monkeypatch: pytest.MonkeyPatch) -> str:
    text = StringIO()
    monkeypatch.delenv(ROOTS_VARIABLE, raising=False)
    if allowed is not None:
        monkeypatch.setenv(ROOTS_VARIABLE, allowed)
    address = Address("http://127.0.0.1:4200/api", "127.0.0.1", 4200)
    serve._tell(address, None, 2, {}, Console(file=text, width=200))
    return text.getvalue()


def test_the_command_says_what_runs_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "[b]").mkdir()
    assert "whatever this user may" in told(None, monkeypatch)
    allowed = as_setting([str(tmp_path / "[b]"), "s3://bucket/a/"])
    assert f"under {tmp_path}/[b], s3://bucket/a alone" in told(allowed, monkeypatch)


def test_roots_go_to_the_runs_by_the_environment(inside: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(ROOTS_VARIABLE)
    monkeypatch.setattr(serve, "_prepare_settings", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        serve.run(host=None, port=None, limit=1, defaults={}, allowed=["pictures"])
    assert json.loads(os.environ[ROOTS_VARIABLE]) == [str(inside / "pictures")]
    with pytest.raises(ConfigError, match="no folder"):
        serve.run(host=None, port=None, limit=1, defaults={}, allowed=["nothing"])
    monkeypatch.setenv(ROOTS_VARIABLE, "/data")
    with pytest.raises(ConfigError, match="no JSON list"):
        serve.run(host=None, port=None, limit=1, defaults={})
