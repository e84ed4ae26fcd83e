"""The store: artifacts are whole, failed attempts leave nothing, on disks and object stores."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import multiprocessing
import os
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from storage.artifacts import store as artifacts
from storage.artifacts.store import MANIFEST, Artifact, ArtifactRef, ArtifactStore
from storage.artifacts.work_clock import working
from storage.errors.exceptions import ArtifactError, ConfigError, StorageError
from storage.files.filesystems import resolve
from tests.support.files.small_artifacts import (
    CONTENT,
    RECIPE,
    REF,
    die_while_writing,
    publish,
    publish_when_all_are_ready,
)


@pytest.fixture
def root(request, tmp_path: Path) -> str:
    if getattr(request, "param", "local") == "local":
        return str(tmp_path / "store")
    return f"memory://{uuid.uuid4().hex}/store"


both = pytest.mark.parametrize("root", ["local", "memory"], indirect=True)


def overwrite(uri: str, content: bytes) -> None:
    filesystem, path = resolve(uri)
    filesystem.pipe_file(path, content)


def manifest_path(root: str) -> Path:
    return Path(root, REF.stage, REF.key, MANIFEST)


def files_under(root: str) -> list[str]:
    filesystem, path = resolve(root)
    return filesystem.find(path)


# --- publishing ---------------------------------------------------------------------------------


@both
def test_round_trip(root):
    store = ArtifactStore(root)
    assert store.find(REF) is None
    artifact = publish(store, name="nested/deep/rows.bin")
    found = ArtifactStore(root).get(REF)
    assert found.manifest == artifact.manifest
    with found.open("nested/deep/rows.bin") as file:
        assert file.read() == CONTENT
    assert found.files["nested/deep/rows.bin"] == {
        "name": "nested/deep/rows.bin",
        "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    assert found.counts == {"rows": 100}
    assert found.manifest["config"] == RECIPE.config
    assert found.problems(deep=True) == []
    assert store.attempts(REF) == [found.manifest["attempt"]]


@both
@pytest.mark.parametrize("error", [ConfigError, KeyboardInterrupt])
def test_attempt_that_raises_leaves_nothing(root, error):
    store = ArtifactStore(root)

    def fail() -> None:
        with store.attempt(REF) as attempt:
            attempt.create_json("a.json", 1)
            with attempt.create("b.bin") as file:
                file.write(b"half")
                raise error

    with pytest.raises(error):
        fail()
    assert store.find(REF) is None
    assert files_under(root) == []
    publish(store)


@both
def test_attempt_that_is_not_published_is_swept(root):
    store = ArtifactStore(root)
    with store.attempt(REF) as attempt:
        attempt.create_json("a.json", 1)
    assert files_under(root) == []


@both
def test_interrupt_after_publishing_leaves_the_artifact_whole(root):
    store = ArtifactStore(root)

    def fail() -> None:
        with store.attempt(REF) as attempt:
            attempt.create_json("a.json", 1)
            store.publish(attempt, RECIPE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert store.get(REF).problems(deep=True) == []


def test_killed_process_leaves_an_attempt_and_no_artifact(root):
    process = multiprocessing.get_context("spawn").Process(target=die_while_writing, args=(root,))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    store = ArtifactStore(root)
    assert store.find(REF) is None
    assert store.published(REF.stage) == []
    assert store.keys(REF.stage) == [REF.key]
    [left] = store.attempts(REF)
    artifact = publish(store)
    store.sweep(REF, left)
    assert store.attempts(REF) == [artifact.manifest["attempt"]]
    assert artifact.problems(deep=True) == []


def race(store: ArtifactStore, racers: int) -> list[Artifact]:
    """All write before any publishes."""
    written = threading.Barrier(racers)

    def run(_: int) -> Artifact:
        with store.attempt(REF) as attempt:
            with attempt.create("rows.bin") as file:
                file.write(CONTENT)
            written.wait(timeout=30)
            return store.publish(attempt, RECIPE)

    with ThreadPoolExecutor(racers) as pool:
        return list(pool.map(run, range(racers)))


@both
def test_racing_threads_publish_one_artifact(root):
    made = race(ArtifactStore(root), 8)
    assert len({artifact.manifest["attempt"] for artifact in made}) == 1
    assert len(files_under(root)) == 2
    assert made[0].problems(deep=True) == []


def test_race_without_hard_links(root, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    store = ArtifactStore(root)
    race(store, 4)
    artifact = store.get(REF)
    assert artifact.problems(deep=True) == []
    assert race(store, 2)[0].manifest == artifact.manifest  # a published artifact is not replaced


def test_racing_processes_publish_one_artifact(root):
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(3), context.Queue()
    arguments = (root, ready, results)
    racers = [context.Process(target=publish_when_all_are_ready, args=arguments) for _ in range(3)]
    for racer in racers:
        racer.start()
    attempts = {results.get(timeout=60) for _ in racers}
    for racer in racers:
        racer.join(timeout=60)
    assert attempts == {ArtifactStore(root).get(REF).manifest["attempt"]}
    assert ArtifactStore(root).attempts(REF) == sorted(attempts)


@both
def test_manifest_comes_after_every_file(root, monkeypatch):
    store = ArtifactStore(root)
    original, seen = ArtifactStore._write_once, []

    def watch(self, uri: str, text: bytes) -> bool:
        seen.append([store.find(REF), len(files_under(root))])
        return original(self, uri, text)

    monkeypatch.setattr(ArtifactStore, "_write_once", watch)
    publish(store)
    assert seen == [[None, 1]]


# --- damage -------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (None, "is missing"),
        (CONTENT[:-1], f"has {len(CONTENT) - 1} bytes instead of {len(CONTENT)}"),
        (CONTENT[::-1], "has changed"),
    ],
)
def test_damage_is_found_when_the_file_is_opened(root, damage, says):
    store = ArtifactStore(root)
    artifact = publish(store)
    artifact.open("rows.bin").close()  # verified before the damage: that must not hide it
    uri = artifact.uri("rows.bin")
    if damage is None:
        filesystem, path = resolve(uri)
        filesystem.rm_file(path)
    else:
        overwrite(uri, damage)
    with pytest.raises(ArtifactError, match="--repair") as caught:
        artifact.open("rows.bin")
    assert uri in str(caught.value)
    assert says in str(caught.value)
    assert len(artifact.problems(deep=True)) == 1


def test_quick_look_notices_a_touched_file(root):
    artifact = publish(ArtifactStore(root))
    path = Path(artifact.uri("rows.bin"))
    path.write_bytes(CONTENT[::-1])
    published = manifest_path(root).stat().st_mtime
    os.utime(path, (published - 9, published - 9))
    assert artifact.problems() == []  # the quick look trusts times ...
    os.utime(path, (published + 9, published + 9))
    assert len(artifact.problems()) == 1
    path.write_bytes(CONTENT)
    os.utime(path, (published + 9, published + 9))
    assert artifact.problems() == []  # ... and reads files whose times have changed


def test_unknown_file_name(root):
    with pytest.raises(ArtifactError, match=r"has no file 'x\.bin'"):
        publish(ArtifactStore(root)).open("x.bin")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"",
        lambda text: text[:40],
        lambda text: b"[1]",
        lambda text: b"\xff\xfe",
        lambda text: b'{"format": 1}',
        lambda text: text.replace(b'"format": 1', b'"format": 99'),
        lambda text: text.replace(REF.key.encode(), b"another"),
        lambda text: text.replace(b'"size": ', b'"bytes": '),
    ],
)
def test_corrupt_manifest(root, change):
    store = ArtifactStore(root)
    publish(store)
    path = manifest_path(root)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ArtifactError, match=r"is damaged: .*manifest.*--repair"):
        store.find(REF)
    store.delete(REF)
    publish(store)


# --- files of attempts --------------------------------------------------------------------------


@both
@pytest.mark.parametrize("links", [True, False])
def test_adopt(root, links, monkeypatch):
    store = ArtifactStore(root)
    source = publish(store)
    other = ArtifactRef("assemble", "key")
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "")))
    with store.attempt(other) as attempt:
        attempt.adopt("shards/a.bin", source, "rows.bin")
        monkeypatch.undo()
        adopted = store.publish(attempt, RECIPE)
    assert adopted.problems(deep=True) == []
    with adopted.open("shards/a.bin") as file:
        assert file.read() == CONTENT
    if not root.startswith("memory"):
        same = Path(adopted.uri("shards/a.bin")).samefile(source.uri("rows.bin"))
        assert same is links
    store.delete(REF)
    assert adopted.problems(deep=True) == []


def test_adopting_a_lost_file_names_it(root):
    store = ArtifactStore(root)
    source = publish(store)
    Path(source.uri("rows.bin")).unlink()
    with (
        pytest.raises(ArtifactError, match=r"rows\.bin is missing.*--repair"),
        store.attempt(ArtifactRef("other", "key")) as attempt,
    ):
        attempt.adopt("a.bin", source, "rows.bin")


def test_adopted_file_cannot_be_overwritten(root):
    """It would be written in place, and change the artifact whose file it links to."""
    store = ArtifactStore(root)
    source = publish(store)
    with store.attempt(ArtifactRef("other", "key")) as attempt:
        attempt.adopt("a.bin", source, "rows.bin")
        with pytest.raises(AssertionError, match="written twice"):
            attempt.create_json("a.bin", 1)
    assert source.problems(deep=True) == []


@both
def test_local_writer(root):
    store = ArtifactStore(root)
    with store.attempt(REF) as attempt:
        attempt.create_from_local_writer(
            "sub/index.faiss", lambda path: Path(path).write_bytes(CONTENT)
        )
        artifact = store.publish(attempt, RECIPE)
    assert artifact.files["sub/index.faiss"]["size"] == len(CONTENT)
    assert artifact.problems(deep=True) == []


class FullDisk(io.BytesIO):
    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when

    def write(self, data: object) -> int:
        if self.when == "write":
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)

    def flush(self) -> None:
        if self.when == "flush" and not self.closed:
            raise OSError(errno.ENOSPC, "No space left on device")

    def fileno(self) -> int:
        return 0


@pytest.mark.parametrize("when", ["write", "flush", "fsync"])
def test_full_disk(root, monkeypatch, when):
    store = ArtifactStore(root)
    filesystem, _ = resolve(root)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(filesystem), "open", lambda *_, **__: FullDisk(when))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError) as caught:
        publish(store)
    monkeypatch.undo()
    text = str(caught.value)
    assert "rows.bin: the disk is full; free some space" in text
    assert text.count("\n") == 0
    assert store.find(REF) is None
    assert files_under(root) == []


def test_full_disk_for_the_manifest(root, monkeypatch):
    store = ArtifactStore(root)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifacts, "link_into_place", full)
    with pytest.raises(StorageError, match="disk is full"):
        publish(store)
    assert store.attempts(REF) == []


def test_other_failures_in_the_block_are_not_blamed_on_the_file(root):
    with (
        pytest.raises(OSError, match="cannot identify image"),
        ArtifactStore(root).attempt(REF) as attempt,
        attempt.create("shard.tar"),
    ):
        raise OSError("cannot identify image")


def test_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="Could not write"):
        publish(ArtifactStore(str(tmp_path / "file" / "store")))


@pytest.mark.parametrize(
    ("code", "advice"), [(errno.EROFS, "read-only"), (errno.EACCES, "permission denied")]
)
def test_read_only_store(root, monkeypatch, code, advice):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match=advice):
        publish(ArtifactStore(root))


# --- the store ----------------------------------------------------------------------------------


@both
def test_delete_removes_the_manifest_first(root, monkeypatch):
    store = ArtifactStore(root)
    publish(store)
    filesystem, _ = resolve(root)
    found = []
    original = type(filesystem).rm
    monkeypatch.setattr(
        type(filesystem),
        "rm",
        lambda self, *a, **k: (found.append(store.find(REF)), original(self, *a, **k)),
    )
    store.delete(REF)
    assert found == [None]
    assert files_under(root) == []
    store.delete(REF)  # nothing to delete: no error


@both
def test_published_finds_the_prefix_in_a_long_list(root):
    store = ArtifactStore(root)
    filesystem, path = resolve(root)
    manifest = dict(publish(store).manifest, files=[])
    for number in range(2_000):
        key = f"{'aa' if number % 2 else 'ab'}-{number:04d}"
        text = json.dumps(manifest | {"stage": "long", "key": key}).encode()
        filesystem.makedirs(f"{path}/long/{key}", exist_ok=True)
        filesystem.pipe_file(f"{path}/long/{key}/{MANIFEST}", text)
    found = store.published("long", "ab")
    assert [artifact.key for artifact in found] == [f"ab-{n:04d}" for n in range(0, 2_000, 2)]
    assert len(store.published("long")) == 2_000
    assert store.published("none") == []
    assert store.stages() == ["long", "make"]


def test_stray_files_are_no_artifacts(root):
    store = ArtifactStore(root)
    publish(store)
    Path(root, "README.txt").write_text("hello")
    Path(root, REF.stage, ".hidden").write_text("hello")
    assert [a.ref for stage in store.stages() for a in store.published(stage)] == [REF]


def test_roots(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ArtifactStore("store").root == f"{tmp_path}/store"
    assert ArtifactStore(f"file://{tmp_path}/a%20b/").root == f"{tmp_path}/a b"
    assert ArtifactStore("s3://bucket/store/").root == "s3://bucket/store"
    assert ArtifactStore("memory://").location(REF) == f"memory:///{REF}"


def test_get_names_the_missing_artifact(root):
    with pytest.raises(ArtifactError, match=rf"{REF} is not in .*run the command"):
        ArtifactStore(root).get(REF)


def test_local_path(root):
    assert publish(ArtifactStore(root)).local_path("rows.bin").read_bytes() == CONTENT
    elsewhere = publish(ArtifactStore(f"memory://{uuid.uuid4().hex}"))
    assert elsewhere.local_path("rows.bin") is None


def test_artifacts_of_other_machines_are_listed(root, monkeypatch):
    """File systems keep listings; s3fs does so for as long as the process lives."""
    forgotten = []
    filesystem, _ = resolve(root)
    monkeypatch.setattr(
        type(filesystem), "invalidate_cache", lambda self, path=None: forgotten.append(path)
    )
    ArtifactStore(root).published("make")
    assert forgotten == [f"{root}/make"]
    assert fsspec.filesystem("memory").invalidate_cache("/x") is None


def test_seconds_count_from_the_beginning_of_the_work(root):
    with working():
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            pass
        artifact = publish(ArtifactStore(root))
    assert artifact.manifest["seconds"] >= 0.5
