"""Addresses of unsupported protocols: refused from users, counted in rows of tables."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from storage.access.protocols import is_supported, protocol_of
from storage.artifacts.store import ArtifactStore
from storage.corpora.corpus import list_source, open_sources
from storage.files.filesystems import (
    MissingFileError,
    UnreachableError,
    exists,
    read_bytes,
    read_range,
)
from storage.images.records import write_parquet
from tests.support.files.bad_images import jpeg, write

REFUSED = [
    "zip://a.jpg::file:///data/photos.zip",
    "zip://d::s3://bucket/photos.zip",
    "reference://::file:///tmp/reference.json",
    "simplecache::s3://bucket/a.jpg",
    "filecache::memory://a.jpg",
    "tar://a.jpg::memory://b.tar",
    "github://owner/a.jpg",
    "ssh://host/a.jpg",
    "sftp://host/a.jpg",
    "ftp://host/a.jpg",
    "REFERENCE://x/a.jpg",
    "local://etc/passwd",
    "data://text/plain;base64,YQ==",
    "nonsense://a.jpg",
    "%73%33://bucket/a.jpg",
]


@pytest.fixture(autouse=True)
def nothing_is_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only allowed protocols reach fsspec."""
    ask = fsspec.get_filesystem_class

    def asked(protocol: str) -> type:
        assert protocol in {"file", "memory", "s3", "gs", "http", "https"}
        return ask(protocol)

    monkeypatch.setattr(fsspec, "get_filesystem_class", asked)
    monkeypatch.setattr(fsspec.core, "url_to_fs", None)


@pytest.mark.parametrize("uri", REFUSED)
@pytest.mark.parametrize(
    "use",
    [
        lambda uri: open_sources([uri]),
        lambda uri: ArtifactStore(uri).stages(),
        read_bytes,
        exists,
        lambda uri: read_range(uri, 0, 1),
    ],
    ids=["corpus", "store", "file", "exists", "range"],
)
def test_the_error_names_the_supported_protocols(use, uri):
    with pytest.raises(UnreachableError, match="neither read nor written: name a local path"):
        use(uri)


def test_rows_that_name_one_are_counted_and_the_others_read(tmp_path: Path):
    good = write(tmp_path / "good.jpg", jpeg())
    write_parquet(pa.table({"uri": [*REFUSED, str(good), "good.jpg"]}), tmp_path / "t.parquet")
    (tmp_path / "t.txt").write_text("\n".join([*REFUSED, "good.jpg"]))
    for name in ("t.parquet", "t.txt"):
        [source] = open_sources([str(tmp_path / name)])
        listing = list_source(source)
        assert set(listing.entries["uri"].to_pylist()) == {str(good)}
        assert listing.rejects["reason"].to_pylist() == ["unsupported_address"] * len(REFUSED)


def test_two_colons_are_part_of_a_name():
    """fsspec would look for `b.jpg` in the archive `/protocols/a`."""
    fsspec.filesystem("memory").pipe("/protocols/a", b"no archive")
    for uri in ("memory://protocols/b.jpg::memory://protocols/a", "MEMORY:///a::zip://b.jpg"):
        with pytest.raises(MissingFileError):
            read_bytes(uri)


def test_paths_with_protocols_in_them_are_files():
    assert protocol_of("/a/zip://b::c") == "file"
    assert protocol_of("a/b.jpg") == "file"
    assert all(map(is_supported, ["S3://b/k", "gs://b/k", "az://c/k", "https://h/p", "file:///a"]))
    assert not any(map(is_supported, REFUSED))
