from __future__ import annotations

import errno
import os

import fsspec
import pytest

from storage.errors.exceptions import StorageError
from storage.files import filesystems
from storage.files.filesystems import (
    MissingFileError,
    RefusedError,
    ShortReadError,
    UnreachableError,
    exists,
    is_local,
    join_uri,
    local_path,
    local_uri,
    parent_uri,
    read_bytes,
    read_range,
    resolve,
    translated_errors,
    utf8_place,
)
from tests.support.files.bad_images import write

ODD_NAMES = [b"a b.jpg", b"two\nlines.jpg", b"a.b.c.jpg", b"100%.jpg", b"q?x#y.jpg", b"caf\xe9.jpg"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_survive_the_way_to_a_uri_and_back(tmp_path, name):
    path = str(write(tmp_path / os.fsdecode(name), b"0123456789"))
    uri = local_uri(path)
    uri.encode("utf-8")
    assert local_path(uri) == path
    assert local_uri(local_path(uri)) == uri
    assert is_local(uri)
    assert exists(uri)
    assert read_bytes(uri) == b"0123456789"
    assert read_range(uri, 3, 4) == b"3456"


def test_only_names_that_are_not_utf8_become_urls():
    assert local_uri("/a/ü b.jpg") == "/a/ü b.jpg"
    assert local_uri(os.fsdecode(b"/a/caf\xe9%.jpg")) == "file:///a/caf%E9%25.jpg"


def test_file_urls_of_users():
    assert local_path("file:///a%20b/c.jpg") == "/a b/c.jpg"
    assert local_path("FILE://localhost/a.jpg") == "/a.jpg"
    assert local_path("relative/a.jpg") == "relative/a.jpg"
    assert is_local("relative/a.jpg")
    assert is_local("/odd://name")
    assert not is_local("s3://bucket/key")


def test_parents_and_children():
    assert parent_uri("/a/b/c.json") == "/a/b"
    assert join_uri("/a/b", "../c d.jpg") == "/a/c d.jpg"
    assert join_uri("file:///caf%E9", "x.jpg") == "file:///caf%E9/x.jpg"
    assert parent_uri("s3://bucket/a/c.json") == "s3://bucket/a"
    assert join_uri("s3://bucket/a", "b/c.jpg") == "s3://bucket/a/b/c.jpg"
    assert parent_uri("https://host/a/t.csv?key=a/b") == "https://host/a"
    assert join_uri("s3://bucket/a::b", "c.jpg") == "s3://bucket/a::b/c.jpg"


def test_remote_files():
    fsspec.filesystem("memory").pipe("/filesystems/x.bin", b"0123456789")
    uri = "memory://filesystems/x.bin"
    assert read_bytes(uri) == b"0123456789"
    assert read_range(uri, 2, 3) == b"234"
    assert exists(uri)
    assert not exists("memory://filesystems/none.bin")
    file_system, path = resolve(uri)
    assert file_system.cat_file(path) == b"0123456789"


def test_a_file_that_ends_early(tmp_path):
    (tmp_path / "x").write_bytes(b"0123456789")
    fsspec.filesystem("memory").pipe("/filesystems/short", b"0123456789")
    for uri in (str(tmp_path / "x"), "memory://filesystems/short"):
        with pytest.raises(ShortReadError, match="ends after 2 of them"):
            read_range(uri, 8, 5)


@pytest.mark.parametrize("uri", ["/no/such/file", "memory://no/such", "/etc/hostname/x", "/a\0b"])
def test_missing_files(uri):
    with pytest.raises(MissingFileError):
        read_bytes(uri)
    assert not exists(uri)


def test_a_missing_package_is_named():
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(UnreachableError, match="s3fs"):
            read_bytes("s3://bucket/key")
    else:
        pytest.skip("s3fs is installed")


def test_an_unknown_protocol_is_named():
    with pytest.raises(UnreachableError, match="nonsense"):
        read_bytes("nonsense://x")


def foreign_error(module: str) -> Exception:
    return type("ForeignError", (Exception,), {"__module__": module})(
        "Unable to locate\ncredentials."
    )


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space left"), RefusedError, "disk is full; free some space"),
        (OSError(errno.EDQUOT, "Quota"), RefusedError, "disk is full"),
        (OSError(errno.EROFS, "Read-only"), RefusedError, "read-only"),
        (PermissionError(errno.EACCES, "denied"), RefusedError, "permission denied"),
        (PermissionError("Access Denied"), RefusedError, "permission denied"),
        (IsADirectoryError(errno.EISDIR, "dir"), StorageError, "is a folder"),
        (OSError(errno.EIO, "Input/output error"), StorageError, "Input/output error"),
        (OSError(errno.ENAMETOOLONG, "long"), MissingFileError, "name as long"),
        (FileNotFoundError("bucket/key"), MissingFileError, "does not exist"),
        (ConnectionResetError("reset by peer"), UnreachableError, "no connection"),
        (OSError(errno.EBUSY, "Please reduce your rate"), UnreachableError, "its server fails"),
        (TimeoutError("timed out"), UnreachableError, "no connection"),
        (ImportError("Install s3fs to access S3"), UnreachableError, "Install s3fs"),
        (foreign_error("botocore.exceptions"), UnreachableError, "credentials"),
    ],
)
def test_foreign_errors_become_one_sentence(error, kind, words):
    with pytest.raises(kind, match=words) as caught, translated_errors("read", "/a\nb.jpg"):
        raise error
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith("Could not read /a\\nb.jpg: ")
    assert "\n" not in message
    assert message.endswith(".")
    assert not message.endswith("..")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("code", "status", "is_about_the_file"),
    [
        ("SlowDown", 503, False),
        ("Throttling", 429, False),
        ("BadGateway", 502, False),
        ("GatewayTimeout", 504, False),
        ("RequestTimeout", 408, False),
        ("InternalError", 500, False),
        ("ExpiredToken", 400, False),
        ("TokenRefreshRequired", 400, False),
        ("RequestTimeTooSkewed", 403, False),
        ("InvalidAccessKeyId", 403, False),
        ("AccessDenied", 403, True),
        ("InvalidObjectState", 403, True),
        ("NoSuchKey", 404, True),
    ],
)
def test_errors_of_an_object_store_are_not_errors_of_the_file(code, status, is_about_the_file):
    errors = pytest.importorskip("s3fs.errors")
    exceptions = pytest.importorskip("botocore.exceptions")
    facts = {"Error": {"Code": code, "Message": "no"},
             "ResponseMetadata": {"HTTPStatusCode": status}}  # fmt: skip
    with pytest.raises(StorageError) as caught, translated_errors("read", "s3://bucket/a.jpg"):
        raise errors.translate_boto_error(exceptions.ClientError(facts, "GetObject"))
    assert isinstance(caught.value, UnreachableError) != is_about_the_file


def test_own_mistakes_are_not_disguised():
    with pytest.raises(KeyError), translated_errors("read", "/x"):
        raise KeyError("x")
    with pytest.raises(ValueError, match="offset"):
        read_range("/x", -1, 5)


def test_long_local_reads_are_put_together(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"0123456789")
    pread = os.pread
    monkeypatch.setattr(
        filesystems.os, "pread", lambda fd, length, offset: pread(fd, min(length, 3), offset)
    )
    assert read_range(str(tmp_path / "x"), 1, 8) == b"12345678"


def test_places_as_typed_are_utf8():
    assert utf8_place("/a/ü") == "/a/ü"
    assert utf8_place("s3://a/b") == "s3://a/b"
    assert utf8_place(os.fsdecode(b"/a/caf\xe9")) == "file:///a/caf%E9"
    assert local_uri("/a/\ud83d.jpg") == "file:///a/%ED%A0%BD.jpg"
