"""Local copies of remote shards: complete, made once, and optional."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest

from storage.files.filesystems import MissingFileError
from storage.shards import cache as shard_cache
from storage.shards.cache import local_copy
from storage.shards.samples import ShardSamples
from tests.support.files.small_datasets import stored_sample, write_dataset


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZUTIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def remote() -> str:
    uri = f"memory://{uuid.uuid4().hex}/a.tar"
    with fsspec.open(uri, "wb") as file:
        file.write(b"shard " * 1000)
    return uri


def test_a_local_file_is_its_own_copy(tmp_path: Path, cache: Path) -> None:
    assert local_copy(str(tmp_path / "a.tar")) == str(tmp_path / "a.tar")
    assert not cache.exists()


def test_a_remote_file_is_copied_once(
    remote: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(local_copy(remote))
    assert copy.read_bytes() == b"shard " * 1000
    assert list(cache.iterdir()) == [copy]
    monkeypatch.setattr(shard_cache, "_copy", None)
    assert local_copy(remote) == str(copy)


def test_another_content_is_another_copy(remote: str) -> None:
    first = local_copy(remote)
    with fsspec.open(remote, "wb") as file:
        file.write(b"other")
    assert Path(local_copy(remote)).read_bytes() == b"other"
    assert local_copy(remote) != first


def test_a_full_disk_leaves_the_file_where_it_is(
    remote: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_cache, "_SPARE_BYTES", 1 << 62)
    assert local_copy(remote) == remote
    assert not list(cache.iterdir())


def test_a_folder_that_can_not_be_written_too(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZUTIS_CACHE", str(tmp_path / "file"))
    assert local_copy(remote) == remote


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(MissingFileError, match=r"nothing\.tar"):
        local_copy(f"memory://{uuid.uuid4().hex}/nothing.tar")


def test_samples_of_a_remote_data_set_come_from_the_copies(tmp_path: Path, cache: Path) -> None:
    stored = [stored_sample(seed, 1) for seed in range(6)]
    folder = write_dataset(tmp_path / "data", stored, {1: "zebra"})
    there = f"memory://{uuid.uuid4().hex}"
    for path in folder.iterdir():
        with fsspec.open(f"{there}/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    shards = ShardSamples.open(there)
    assert [shards.read(i).jpeg for i in range(6)] == [sample.jpeg for sample in stored]
    assert len(list(cache.iterdir())) == 2, "two shards"
