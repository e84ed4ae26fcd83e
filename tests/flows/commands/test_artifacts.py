"""`zutis artifacts` and `--repair` on a finished build."""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path

import pytest

from flows.cli import exit_code_of, run_command_line
from flows.execution.executors import LocalExecutor
from flows.pipelines.build import build
from flows.settings.build import BuildSettings
from flows.settings.options import changed
from flows.upkeep.collect_garbage import find_garbage, freed_bytes
from flows.upkeep.repair import repair_store
from storage.artifacts.fingerprints import Recipe
from storage.artifacts.inventory import take_inventory
from storage.artifacts.leases import using
from storage.artifacts.pins import pin
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ArtifactError
from tests.support.files.coloured_images import write_corpus


def run(*arguments: str) -> int:
    return exit_code_of(lambda: run_command_line(list(arguments)))


@pytest.fixture
def store(settings: BuildSettings) -> ArtifactStore:
    artifacts = ArtifactStore(settings.store)
    build(settings, LocalExecutor(artifacts))
    return artifacts


def files_of(store: ArtifactStore) -> dict[str, object]:
    """Files by artifact; without plans of masks, which depend on the masks at their time."""
    stages = [stage for stage in store.stages() if stage != "plan_masks"]
    return {str(a.ref): a.files for stage in stages for a in store.published(stage)}


@pytest.mark.parametrize("columns", [200, 80, 20])
def test_list_names_every_stage_and_key_in_full(columns, store, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run("artifacts", "list", "--store", store.root) == 0
    printed = capsys.readouterr().out
    shown = {tuple(map(str.strip, line.split("│")[1:3])) for line in printed.splitlines()}
    assert {(stage, key) for stage in store.stages() for key in store.keys(stage)} <= shown
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


def make_old(store: ArtifactStore, days: float = 30) -> None:
    """Set the times of all files of the store back by so many days."""
    then = time.time() - days * 24 * 3600
    for path in Path(store.root).rglob("*"):
        os.utime(path, (then, then))


def crash(store: ArtifactStore, ref: ArtifactRef) -> Path:
    """Leave an unfinished attempt, as a killed process does; returns its folder."""
    left = Path(store.location(ref), f"attempt-{len(list(Path(store.root).rglob('*'))):012x}")
    left.mkdir(parents=True)
    (left / "masks.parquet").write_bytes(b"half")
    return left


def gc(store: ArtifactStore, *options: str) -> int:
    return run("artifacts", "gc", *options, "--store", store.root)


def dataset_of(store: ArtifactStore) -> set[str]:
    return {artifact.key for artifact in store.published("assemble_dataset")}


def test_gc_removes_what_a_crash_left_behind_and_nothing_young(store, capsys):
    whole = files_of(store)
    left = crash(store, ArtifactRef("make_masks", "0123-4567"))
    assert gc(store) == 0
    assert "Nothing to remove" in capsys.readouterr().out
    make_old(store)
    assert gc(store, "--no-unreferenced", "--verbose") == 0
    assert "would remove unfinished make_masks/0123-4567" in capsys.readouterr().out
    assert left.exists()
    assert gc(store, "--no-unreferenced", "--delete") == 0
    assert not left.exists()
    assert files_of(store) == whole


def test_gc_tells_stage_count_and_size(store, capsys):
    crash(store, ArtifactRef("make_masks", "0123-4567"))
    crash(store, ArtifactRef("make_masks", "0123-8901"))
    make_old(store)
    gc(store, "--no-unreferenced")
    [row] = [line for line in capsys.readouterr().out.splitlines() if "make_masks" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")][:3] == [
        "make_masks", "unfinished", "2",
    ]  # fmt: skip


def test_gc_sweeps_what_a_loser_left_beside_the_artifact(store):
    masks = store.published("make_masks")[0]
    left = crash(store, masks.ref)
    make_old(store)
    assert gc(store, "--delete") == 0
    assert not left.exists()
    assert masks.problems(deep=True) == []


def test_gc_keeps_what_any_latest_build_refers_to(store, settings, corpus, capsys):
    """After the corpus has grown, both builds' artifacts stay; those that neither used go."""
    write_corpus(corpus, ["red"], each=2, first_seed=70)
    build(settings, LocalExecutor(store))
    whole = files_of(store)
    build(changed(settings, overlap="all"), LocalExecutor(store))
    for record in store.published("record_build"):
        if not any(f"record_build/{record.key}" == name for name in whole):
            store.delete(record.ref)
    make_old(store)
    assert gc(store, "--delete", "--verbose") == 0
    kept = files_of(store)
    assert set(kept) == set(whole)
    assert "unreferenced retrieve/" in capsys.readouterr().out


def build_twice(store: ArtifactStore, settings: BuildSettings) -> tuple[str, str]:
    """Build the fixture's vocabulary once more; returns both data sets' keys."""
    [first] = dataset_of(store)
    for record in store.published("record_build"):  # dates have a resolution of a second
        rewrite_created(record.ref, store, "2020-01-01T00:00:00+00:00")
    build(changed(settings, per_category=2), LocalExecutor(store))
    [second] = dataset_of(store) - {first}
    make_old(store)
    return first, second


def rewrite_created(ref: ArtifactRef, store: ArtifactStore, created: str) -> None:
    path = Path(store.location(ref), "manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"created": created}))


def test_only_the_latest_builds_of_a_vocabulary_stay(store, settings):
    first, second = build_twice(store, settings)
    assert gc(store, "--delete", "--keep-builds", "2") == 0
    assert dataset_of(store) == {first, second}
    assert gc(store, "--keep-builds", "1") == 0
    assert dataset_of(store) == {first, second}, "a dry run"
    assert gc(store, "--delete", "--keep-builds", "1") == 0
    assert dataset_of(store) == {second}
    assert len(store.published("record_build")) == 1
    whole = files_of(store)
    build(changed(settings, per_category=2), LocalExecutor(ArtifactStore(store.root)))
    assert files_of(store) == whole, "the latest build had lost something"


def test_another_vocabulary_has_latest_builds_of_its_own(store, settings, tmp_path):
    [first] = dataset_of(store)
    other = tmp_path / "two.txt"
    other.write_text("red\ngreen\n")
    build(changed(settings, vocabulary=str(other)), LocalExecutor(store))
    make_old(store)
    assert gc(store, "--delete", "--keep-builds", "1") == 0
    assert first in dataset_of(store)
    assert len(dataset_of(store)) == 2


@pytest.mark.parametrize("stage", ["record_build", "assemble_dataset"])
def test_what_is_pinned_stays_until_it_is_let_go(store, settings, stage, capsys):
    first, _ = build_twice(store, settings)
    old = min(
        store.published(stage),
        key=lambda a: a.manifest["created"] if stage == "record_build" else a.key != first,
    )
    assert run("artifacts", "pin", old.key[:30], "--store", store.root) == 0
    assert gc(store, "--delete", "--keep-builds", "1") == 0
    assert first in dataset_of(store)
    assert len(store.published("record_build")) == (2 if stage == "record_build" else 1)
    assert run("artifacts", "unpin", old.key[:30], "--store", store.root) == 0
    assert gc(store, "--delete", "--keep-builds", "1") == 0
    assert first not in dataset_of(store)
    assert run("artifacts", "unpin", old.key[:30], "--store", store.root) == 2
    assert "0 pins" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_a_data_set_stays_for_what_was_trained_on_it(store, settings, stage):
    first, second = build_twice(store, settings)
    training = publish_one(store, "train", {"dataset": first})
    if stage == "evaluate":
        publish_one(store, "evaluate", {"training": training})
    make_old(store)
    assert gc(store, "--delete", "--keep-builds", "1") == 0
    assert dataset_of(store) == {first, second}
    assert store.find(ArtifactRef("train", training)) is not None
    [dataset] = [a for a in store.published("assemble_dataset") if a.key == first]
    assert dataset.problems(deep=True) == []


def publish_one(store: ArtifactStore, stage: str, inputs: dict[str, str]) -> str:
    recipe = Recipe(stage=stage, version=1, config={}, inputs=inputs)
    with store.attempt(ArtifactRef(stage, recipe.key())) as attempt:
        attempt.create_json("made.json", {})
        return store.publish(attempt, recipe).key


def test_a_stopped_build_finds_all_it_needs_within_the_grace_period(store, settings, capsys):
    """Its new parts stay, and so does the old plan that they belong to."""
    for record in store.published("record_build"):
        store.delete(record.ref)
    make_old(store)
    [embedded, *_] = store.published("embed_images")
    os.utime(Path(store.location(embedded.ref), "manifest.json"))
    plans = {plan.key for plan in store.published("scan")}
    assert gc(store, "--delete") == 0
    assert [a.key for a in store.published("embed_images")] == [embedded.key]
    assert {plan.key for plan in store.published("scan")} == plans


def test_old_plans_go_and_the_next_scan_goes_on_from_the_latest(store, settings, corpus):
    [first] = store.published("scan")
    write_corpus(corpus, ["red"], each=2, first_seed=70)
    for record in store.published("record_build"):
        rewrite_created(record.ref, store, "2020-01-01T00:00:00+00:00")
    build(settings, LocalExecutor(store))
    make_old(store)
    assert gc(store, "--delete", "--keep-builds", "1") == 0
    [plan] = store.published("scan")
    assert plan.key != first.key
    whole = files_of(store)
    build(settings, LocalExecutor(ArtifactStore(store.root)))
    assert files_of(store) == whole


def test_a_plan_stays_while_it_continues_one_that_is_used(store, settings, corpus):
    """Otherwise the older plan would become the corpus's latest."""
    write_corpus(corpus, ["red"], each=2, first_seed=70)
    build(settings, LocalExecutor(store))
    plans = {plan.key for plan in store.published("scan")}
    latest = max(store.published("record_build"), key=lambda r: len(r.manifest["inputs"]["others"]))
    store.delete(latest.ref)
    make_old(store)
    assert gc(store, "--delete") == 0
    assert {plan.key for plan in store.published("scan")} == plans


def test_nothing_that_a_running_build_may_use_goes(store, settings, capsys):
    first, second = build_twice(store, settings)
    left = crash(store, ArtifactRef("make_masks", "0123-4567"))
    make_old(store)
    with using(store, "build-pseudolabels", "colours"):
        assert gc(store, "--delete", "--keep-builds", "1") == 0
    assert dataset_of(store) == {first, second}
    assert not left.exists(), "an attempt that nobody has written to for weeks"
    assert "build-pseudolabels" in capsys.readouterr().out
    assert gc(store, "--delete", "--keep-builds", "1") == 0
    assert dataset_of(store) == {second}


def test_gc_stops_where_a_record_can_not_be_read(store, settings, capsys):
    first, second = build_twice(store, settings)
    record = store.published("record_build")[0]
    Path(store.location(record.ref), "manifest.json").write_text("{")
    assert gc(store, "--delete", "--keep-builds", "1") == 2
    assert "--repair" in capsys.readouterr().err
    assert dataset_of(store) == {first, second}


def test_stages_of_another_version_are_left_alone(store):
    other = publish_one(store, "sharpen_masks", {})
    make_old(store)
    assert gc(store, "--delete") == 0
    assert store.find(ArtifactRef("sharpen_masks", other)) is not None


def test_the_state_of_a_finished_training_goes(store):
    key = publish_one(store, "train", {})
    finished = Path(store.location(ArtifactRef("train", key)), ".state")
    stopped = Path(store.root, "train", "0123-4567", ".state")
    for folder in (finished, stopped):
        folder.mkdir(parents=True)
        (folder / "step-00000001.pt").write_bytes(b"state")
    make_old(store)
    assert gc(store, "--delete") == 0
    assert not finished.exists()
    assert stopped.exists(), "that training can go on"


def test_disk_that_others_share_is_not_promised(store, settings, capsys):
    """Shards are linked into their data set, which stays here: removing them frees nothing."""
    [dataset] = store.published("assemble_dataset")
    pin(store, dataset.ref)
    for record in store.published("record_build"):
        store.delete(record.ref)
    make_old(store)
    holdings = take_inventory(store)
    garbage = list(find_garbage(store, before=time.time(), unreferenced=True, holdings=holdings))
    shards = [item for item in garbage if item.ref.stage == "pack_shards"]
    shared = sum(
        size for item in shards for stored in item.stored for size in stored.sizes.values()
    )
    all_sizes = sum(size for g in garbage for stored in g.stored for size in stored.sizes.values())
    tars = sum(e["size"] for n, e in dataset.files.items() if n.endswith(".tar"))
    assert 0 < tars <= shared
    assert freed_bytes(holdings, garbage) <= all_sizes - tars


def test_an_object_store_is_collected_likewise(settings):
    store = ArtifactStore(f"memory://{uuid.uuid4().hex}/store")
    for count in (4, 2):
        build(changed(settings, per_category=count, store=store.root), LocalExecutor(store))
    later = time.time() + 3600
    kept, other = sorted(dataset_of(store))
    for record in store.published("record_build"):
        if record.manifest["inputs"]["dataset"] != kept:
            store.delete(record.ref)
    assert list(find_garbage(store, before=time.time() - 3600, unreferenced=True)) == []
    garbage = list(find_garbage(store, before=later, unreferenced=True))
    assert ArtifactRef("assemble_dataset", other) in {item.ref for item in garbage}
    for item in garbage:
        item.remove(store)
    assert dataset_of(store) == {kept}
    assert list(find_garbage(store, before=later, unreferenced=True)) == []
    [dataset] = store.published("assemble_dataset")
    assert dataset.problems(deep=True) == []
