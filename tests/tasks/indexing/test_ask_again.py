"""Retry of images after temporary failures: only of these, without other changes."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from flows.execution.executors import NotCached
from flows.summaries.build import summarise
from flows.upkeep.collect_garbage import find_garbage
from flows.upkeep.repair import repair_store
from storage.artifacts.store import Artifact, ArtifactStore
from storage.corpora import image_bytes
from storage.embeddings.parts import open_embeddings
from storage.errors.exceptions import CorpusError
from storage.web import retries
from storage.web.retries import forget_hosts
from tasks.indexing import ask_again
from tasks.stage.contract import PartOfPlan
from tasks.stage.layout import EMBEDDINGS, RECORDS, REJECTS
from tests.support.files.bad_images import jpeg, tar_bytes, write
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import (
    artifacts_by_stage,
    build_cached,
    build_here,
    clip,
    rows_of,
    settings_of,
    write_vocabulary,
)
from tests.support.runs.stages import Stages
from tests.support.servers.bad_server import CUT, DRIP, HANG, RESET, BadServer, bad_server, hurried


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    with bad_server() as running, hurried(monkeypatch):
        yield running


def table_of(server: BadServer, names: list[str], path: Path) -> Path:
    return write(path, "".join(f"{server.url(f'/{name}')}\n" for name in names).encode())


def names_of(part: Artifact, table: str) -> list[str]:
    return [row["uri"].rpartition("/")[2] + row["member"] for row in rows_of(part, table)]


def reasons_of(part: Artifact) -> dict[str, str]:
    return {row["uri"].rpartition("/")[2]: row["reject_reason"] for row in rows_of(part, REJECTS)}


def image_of(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def rows(part: Artifact) -> np.ndarray:
    return np.asarray(open_embeddings(part, EMBEDDINGS))


def test_temporary_failures_are_retried_and_no_others(
    server: BadServer, stages: Stages, tmp_path: Path, fake_clip: FakeClip,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(retries.TRANSFER_VARIABLE, "1.5")
    troubles = {"a": 503, "b": 429, "c": CUT, "d": RESET, "e": HANG, "f": DRIP, "g": 404, "h": 410,
                "i": 403, "j": b"<html>"}  # fmt: skip
    server.scripts = {f"/{name}.jpg": [trouble] for name, trouble in troubles.items()}
    server.scripts |= {f"/{n}.jpg": [jpeg(n)] for n in range(3)}
    names = [path[1:] for path in server.scripts]
    plan = stages.scan(table_of(server, names, tmp_path / "list.txt"))
    first = stages.embed(plan)
    assert names_of(first, RECORDS) == ["0.jpg", "1.jpg", "2.jpg"]
    assert reasons_of(first) == {
        "a.jpg": "server_error", "b.jpg": "too_many_requests", "c.jpg": "connection_lost",
        "d.jpg": "connection_lost", "e.jpg": "timed_out", "f.jpg": "timed_out",
        "g.jpg": "missing", "h.jpg": "missing", "i.jpg": "unreadable", "j.jpg": "not_an_image",
    }  # fmt: skip
    passing = [f"/{name}.jpg" for name in "abcdef"]
    part = PartOfPlan(plan.ref, 0)
    assert ask_again.count_retryable(part, first, stages.store) == len(passing)

    server.asked.clear()
    before = dict(fake_clip.calls)
    assert stages.ask_again(plan, first) is None  # nothing has passed: nothing is published
    assert set(server.asked) == set(passing)
    assert dict(fake_clip.calls) == before
    assert len(stages.store.published("embed_images")) == 1

    forget_hosts()  # as another process does
    server.asked.clear()
    for n, path in enumerate(passing[::2]):
        server.scripts[path] = [jpeg(10 + n)]
    second = stages.ask_again(plan, first)
    assert second is not None
    assert set(server.asked) == set(passing)
    assert sorted(names_of(second, RECORDS)) == sorted(
        ["0.jpg", "1.jpg", "2.jpg", "a.jpg", "c.jpg", "e.jpg"]
    )
    assert fake_clip.calls["images"] == before["images"] + 3
    order = [row["uri"] for row in rows_of(plan, "entries.parquet")]
    uris = [row["uri"] for row in rows_of(second, RECORDS)]
    assert uris == sorted(uris, key=order.index)
    by_name = dict(zip(names_of(second, RECORDS), rows(second), strict=True))
    for name, row in zip(names_of(first, RECORDS), rows(first), strict=True):
        np.testing.assert_array_equal(by_name[name], row)
    got = image_of(jpeg(10))
    np.testing.assert_array_equal(
        by_name["a.jpg"], fake_clip.embed_images(fake_clip.preprocess(got)[None])[0].half().numpy()
    )
    assert second.counts["images"] == 6
    assert second.counts["rejects"] == {"connection_lost": 1, "missing": 2, "not_an_image": 1,
                                        "timed_out": 1, "too_many_requests": 1,
                                        "unreadable": 1}  # fmt: skip

    server.asked.clear()
    server.scripts["/b.jpg"] = [jpeg(20)]
    third = stages.ask_again(plan, first)  # goes on from the second
    assert third is not None
    assert set(server.asked) == {"/b.jpg", "/d.jpg", "/f.jpg"}
    assert third.counts["images"] == 7
    assert third.manifest["inputs"]["continues"] == second.key
    assert ask_again.latest(ask_again.Config(clip=clip()), first, stages.store).key == third.key


def test_the_same_answers_give_the_same_key_and_bytes(
    server: BadServer, tmp_path: Path, fake_clip: FakeClip
) -> None:
    server.scripts = {f"/{n}.jpg": [jpeg(n)] for n in range(5)}
    table = table_of(server, [f"{n}.jpg" for n in range(5)], tmp_path / "list.txt")
    made = []
    for name in ("one", "two"):
        stages = Stages(ArtifactStore(str(tmp_path / name)))
        server.scripts |= {"/1.jpg": [503], "/3.jpg": [429]}
        plan = stages.scan(table)
        first = stages.embed(plan)
        server.scripts["/3.jpg"] = [jpeg(3)]
        made.append(stages.ask_again(plan, first))
    one, two = made
    assert one is not None
    assert two is not None
    assert one.key == two.key != first.key
    assert one.files == two.files


def test_nothing_at_all_at_first(server: BadServer, stages: Stages, tmp_path: Path,
                                 fake_clip: FakeClip) -> None:  # fmt: skip
    server.scripts = {"/a.jpg": [503]}
    plan = stages.scan(table_of(server, ["a.jpg"], tmp_path / "list.txt"))
    with pytest.raises(CorpusError, match=r"1 server_error.*once the web server sends them"):
        stages.index(plan)
    first = stages.embed(plan)
    server.scripts = {"/a.jpg": [jpeg(1)]}
    second = stages.ask_again(plan, first)
    assert second is not None
    assert second.counts == {
        "read": 1, "images": 1, "duplicates": 0, "rejects": {}, "conversions": {}
    }  # fmt: skip


def test_a_truncated_tar_is_continued_and_its_images_are_kept(
    server: BadServer, stages: Stages, tmp_path: Path, fake_clip: FakeClip,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("storage.web.requests._BUFFER_BYTES", 8192)
    members = [(f"{n:02}.jpg", jpeg(n)) for n in range(20)] + [("x.txt", b"text")]
    data = tar_bytes(members)
    server.scripts["/t.tar"] = [data, data, data, 503]
    plan = stages.scan(table_of(server, ["t.tar"], tmp_path / "list.txt"))
    first = stages.embed(plan)
    had = first.counts["images"]
    assert 0 < had < 20
    assert first.counts["rejects"] == {"server_error": 1}
    assert "ignored" not in first.counts
    server.scripts["/t.tar"] = [data]
    calls = fake_clip.calls["images"]
    second = stages.ask_again(plan, first)
    assert second is not None
    assert fake_clip.calls["images"] == calls + 20 - had
    assert [row["member"] for row in rows_of(second, RECORDS)] == [name for name, _ in members[:20]]
    assert second.counts["ignored"] == {"txt": 1}
    assert second.counts["rejects"] == {}
    fresh = Stages(ArtifactStore(str(tmp_path / "fresh")))
    whole = fresh.embed(fresh.scan(tmp_path / "list.txt"))
    assert rows_of(second, RECORDS) == rows_of(whole, RECORDS)
    np.testing.assert_array_equal(rows(second), rows(whole))


def test_removed_files_are_not_retried(
    server: BadServer, stages: Stages, tmp_path: Path, fake_clip: FakeClip
) -> None:
    server.scripts = {"/a.jpg": [503], "/b.jpg": [jpeg(1)]}
    first = stages.embed(stages.scan(table_of(server, ["a.jpg", "b.jpg"], tmp_path / "list.txt")))
    plan = stages.scan(table_of(server, ["b.jpg"], tmp_path / "list.txt"))
    assert ask_again.count_retryable(PartOfPlan(plan.ref, 0), first, stages.store) == 0


def test_a_file_that_may_be_read_by_now_is(
    stages: Stages, corpus: Path, fake_clip: FakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(corpus, ["red"], each=2)
    forbidden = sorted(corpus.iterdir())[0]
    may_be_read = {"now": False}
    read = image_bytes.read_bytes

    def read_bytes(uri: str, **settings: int) -> bytes:
        if uri == str(forbidden) and not may_be_read["now"]:
            raise PermissionError(13, "denied", uri)
        return read(uri, **settings)

    monkeypatch.setattr(image_bytes, "read_bytes", read_bytes)  # the tests may run as root
    monkeypatch.setattr(ask_again.os, "access", lambda *_: may_be_read["now"])
    plan = stages.scan(corpus)
    first = stages.embed(plan)
    part = PartOfPlan(plan.ref, 0)
    assert first.counts["rejects"] == {"unreadable": 1}
    assert ask_again.count_retryable(part, first, stages.store) == 0
    may_be_read["now"] = True
    assert ask_again.count_retryable(part, first, stages.store) == 1
    second = stages.ask_again(plan, first)
    assert second is not None
    assert second.counts["images"] == 2


def test_an_object_that_may_be_read_by_now_is(
    stages: Stages, fake_clip: FakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    for n in range(2):
        memory.pipe(f"/ask_again/{n}.jpg", jpeg(n))
    read = image_bytes.read_bytes

    def refused(uri: str, **settings: int) -> bytes:
        if uri.endswith("/0.jpg"):
            raise PermissionError("Access Denied")  # as s3fs has it
        return read(uri, **settings)

    plan = stages.scan("memory://ask_again")
    with monkeypatch.context() as policy:
        policy.setattr(image_bytes, "read_bytes", refused)
        first = stages.embed(plan)
    assert first.counts["rejects"] == {"unreadable": 1}
    assert ask_again.count_retryable(PartOfPlan(plan.ref, 0), first, stages.store) == 1
    second = stages.ask_again(plan, first)
    assert second is not None
    assert second.counts["images"] == 2


@pytest.mark.parametrize("repair", [False, True])
def test_a_build_retries_and_changes_nothing_without_a_success(
    server: BadServer, tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask,
    repair: bool,
) -> None:  # fmt: skip
    corpus = write_corpus(tmp_path / "images", ["red", "green", "blue"], each=4)
    server.scripts = {f"/{path.name}": [path.read_bytes()] for path in corpus}
    late = f"/{corpus[1].name}"
    server.scripts[late] = [503]
    table = table_of(server, [path.name for path in corpus], tmp_path / "list.txt")
    settings = settings_of(
        table, write_vocabulary(tmp_path / "names.txt", ["red", "green", "blue"]),
        tmp_path / "store", part_images=4,
    )  # fmt: skip
    store = ArtifactStore(settings.store)

    def again():
        if repair:
            assert list(repair_store(store)) == []
        server.asked.clear()
        return build_here(settings)

    first = build_here(settings)
    assert server.times[late] == 4  # all of them in one go
    assert "asked again" in summarise(first, []).facts
    before = artifacts_by_stage(settings.store)
    with pytest.raises(NotCached, match="ask_again"):
        build_cached(settings)
    second = again()
    assert set(server.asked) == {late}
    assert second.record.key == first.record.key
    assert artifacts_by_stage(settings.store) == before

    server.scripts[late] = [corpus[1].read_bytes()]
    third = again()
    assert late in server.asked
    assert third.index.counts["images"] == 12
    assert third.index.counts["rejects"] == {}
    assert "asked again" not in summarise(third, []).facts
    assert third.dataset.counts["samples"] == 12
    made = artifacts_by_stage(settings.store)
    assert len(made["embed_images"]) == len(before["embed_images"]) + 1
    fourth = again()
    assert server.asked == []
    assert fourth.record.key == third.record.key
    build_cached(settings)
    store.delete(first.record.ref)  # it was made within the same second
    garbage = find_garbage(store, before=time.time() + 60, unreferenced=True, keep_builds=1)
    for item in list(garbage):
        item.remove(store)
    build_cached(settings)  # the part that the latest continues is still there
