"""`zutis artifacts` and `--repair` on a finished build."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pictures import write_corpus

from flows.cli import app, exit_code_of
from flows.executors import LocalExecutor
from flows.pipeline import build
from flows.repair import repair_store
from flows.settings import BuildSettings
from storage.artifacts import ArtifactRef, ArtifactStore
from storage.errors import ArtifactError


def run(*arguments: str) -> int:
    return exit_code_of(lambda: app(list(arguments)))


@pytest.fixture
def store(settings: BuildSettings) -> ArtifactStore:
    artifacts = ArtifactStore(settings.store)
    build(settings, LocalExecutor(artifacts))
    return artifacts


def files_of(store: ArtifactStore) -> dict[str, object]:
    """Files by artifact; without plans of what was still to be masked, which come and go."""
    stages = [stage for stage in store.stages() if stage != "plan_masks"]
    return {str(a.ref): a.files for stage in stages for a in store.published(stage)}


def test_list_names_every_stage(store, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run("artifacts", "list", "--store", store.root) == 0
    printed = capsys.readouterr().out
    assert all(stage in printed for stage in store.stages())
    assert run("artifacts", "list", "--stage", "scan", "--store", store.root) == 0
    assert "make_masks" not in capsys.readouterr().out


def test_show_takes_the_beginning_of_a_key(store, capsys):
    [scan] = store.published("scan")
    assert run("artifacts", "show", scan.key[:12], "--store", store.root) == 0
    printed = capsys.readouterr().out
    assert scan.key in printed
    assert "entries.parquet" in printed
    assert run("artifacts", "show", "", "--store", store.root) == 2
    assert "give more of it" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["embed_images", "make_masks", "pack_shards", "retrieve"])
def test_damage_is_named_and_repaired_to_the_same_bytes(store, settings, stage, capsys):
    whole = files_of(store)
    artifact = store.published(stage)[0]
    name = sorted(artifact.files)[0]
    path = Path(artifact.uri(name))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    assert run("artifacts", "check", "--store", store.root) == 2
    assert str(path) in capsys.readouterr().err
    with pytest.raises(ArtifactError, match="--repair"):
        build(settings, LocalExecutor(ArtifactStore(store.root)))
    fresh = ArtifactStore(store.root)
    assert any(str(artifact.ref) in line for line in repair_store(fresh))
    build(settings, LocalExecutor(fresh))
    assert files_of(fresh) == whole
    assert run("artifacts", "check", "--store", store.root) == 0


def test_gc_removes_what_a_crash_left_behind_and_nothing_young(store, capsys):
    whole = files_of(store)
    crashed = store.attempt(ArtifactRef("make_masks", "0123-4567"))
    with crashed.__enter__().create("masks.parquet") as file:
        file.write(b"half")
    [left] = Path(store.root, "make_masks", "0123-4567").iterdir()
    assert run("artifacts", "gc", "--store", store.root) == 0
    assert "Nothing to remove" in capsys.readouterr().out
    old = time.time() - 48 * 3600
    for path in (left, *left.iterdir()):
        os.utime(path, (old, old))
    assert run("artifacts", "gc", "--store", store.root) == 0
    assert "would remove unfinished make_masks/0123-4567" in capsys.readouterr().out
    assert left.exists()
    assert run("artifacts", "gc", "--delete", "--store", store.root) == 0
    assert not left.exists()
    assert files_of(store) == whole


def test_gc_keeps_what_any_build_refers_to(store, settings, corpus, capsys):
    """After the corpus has grown, both builds' artifacts stay; what neither used goes."""
    write_corpus(corpus, ["red"], each=2, first_seed=70)
    build(settings, LocalExecutor(store))
    whole = files_of(store)
    build(replace(settings, overlap="all"), LocalExecutor(store))
    for record in store.published("record_build"):
        if not any(f"record_build/{record.key}" == name for name in whole):
            store.delete(record.ref)
    options = ["--unreferenced", "--delete", "--older-than-hours", "-1"]
    assert run("artifacts", "gc", *options, "--store", store.root) == 0
    kept = files_of(store)
    assert set(kept) == set(whole)
    assert "unreferenced retrieve/" in capsys.readouterr().out
