"""The inventory of a store: keys, sizes and ages; pins and references."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import pytest

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.inventory import read_manifests, take_inventory, total_size
from storage.artifacts.pins import pin, pinned, unpin
from storage.artifacts.references import reachable
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ArtifactError
from tests.support.files.small_artifacts import CONTENT, REF, publish


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path: Path) -> ArtifactStore:
    if request.param == "local":
        return ArtifactStore(str(tmp_path / "store"))
    return ArtifactStore(f"memory://{uuid.uuid4().hex}/store")


def chain(store: ArtifactStore, stage: str, **inputs: object) -> ArtifactRef:
    recipe = Recipe(stage=stage, version=1, config={}, inputs=inputs)
    with store.attempt(ArtifactRef(stage, recipe.key())) as attempt:
        return store.publish(attempt, recipe).ref


def test_an_empty_store_holds_nothing(store):
    assert take_inventory(store) == []


def test_published_and_unfinished_are_distinguished(store):
    artifact = publish(store)
    other = ArtifactRef("make", "0123-4567")
    with store.attempt(other) as attempt:
        with attempt.create("half.bin") as file:
            file.write(b"1234")
        unfinished, whole = take_inventory(store)
    assert (unfinished.ref, whole.ref) == (other, REF)
    assert unfinished.published is None
    assert unfinished.children[attempt.name].size == 4
    assert whole.published == pytest.approx(time.time(), abs=300)
    assert whole.children[artifact.manifest["attempt"]].size == len(CONTENT)
    assert whole.manifest.size > 100


def test_the_age_of_an_attempt_is_that_of_its_youngest_file(tmp_path):
    store = ArtifactStore(str(tmp_path))
    folder = tmp_path / "make" / "0123-4567" / "attempt-1"
    (folder / "below").mkdir(parents=True)
    for name, age in (("old", 500), ("below/young", 100), ("below/older", 900)):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    for path in (folder, folder / "below"):
        os.utime(path, (1e9 - 700, 1e9 - 700))
    [holding] = take_inventory(store)
    assert holding.children["attempt-1"].newest == 1e9 - 100


def test_a_file_with_two_names_counts_once(tmp_path):
    store = ArtifactStore(str(tmp_path))
    artifact = publish(store)
    with store.attempt(ArtifactRef("copy", "0123-4567")) as attempt:
        attempt.adopt("rows.bin", artifact, "rows.bin")
        holdings = take_inventory(store)
    contents = [stored for h in holdings for stored in h.children.values()]
    assert [stored.size for stored in contents] == [len(CONTENT)] * 2
    assert total_size(contents) == len(CONTENT)


def test_manifests_are_read_in_order_and_gaps_left_out(store):
    refs = [chain(store, "make", number=number) for number in range(5)]
    gap = ArtifactRef("make", "0123-4567")
    found = read_manifests(store, [refs[3], gap, refs[0]])
    assert [artifact.ref for artifact in found] == [refs[3], refs[0]]


def test_pins_come_and_go(store):
    first, second = ArtifactRef("make", "a-1"), ArtifactRef("make_more", "b-2")
    assert pinned(store) == []
    pin(store, second, "the paper's")
    pin(store, first)
    pin(store, first, "again")
    assert pinned(store) == [first, second]
    assert store.stages() == []
    unpin(store, first)
    unpin(store, first)
    assert pinned(store) == [second]


def test_references_are_followed_through_the_chosen_artifacts(store):
    a = chain(store, "first")
    b = chain(store, "second", of=a.key, digest="f" * 64)
    c = chain(store, "third", others=[str(b), {"deep": [a.key]}])
    known = [a, b, c]
    assert reachable(store, known, [c]) == {a, b, c}
    assert reachable(store, known, [b]) == {a, b}
    assert reachable(store, known, [b], lambda ref: ref.stage == "third") == {b}
    assert reachable(store, [b, c], [c], lambda ref: ref.stage == "third") == {b, c}


def test_a_damaged_manifest_on_the_way_stops_the_search(tmp_path):
    store = ArtifactStore(str(tmp_path))
    ref = chain(store, "first")
    Path(store.location(ref), "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        reachable(store, [ref], [ref])
