"""Users' files: their kind and size are checked before they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fsspec
import pytest

from storage.corpora.corpus import list_corpus
from storage.errors.exceptions import StorageError, VocabularyError
from storage.files import user_files
from storage.files.filesystems import read_bytes
from storage.files.json_files import load_json, parse_json
from storage.files.regular_files import NotRegularError, open_regular
from storage.files.user_files import Limit, TooLargeError, read_path, read_uri, user_path
from storage.vocabularies.vocabulary import load_vocabulary
from tests.support.files.special_files import SPECIAL, make_huge, make_pipe

SMALL = Limit("a small thing", 10)


class CountedReads:
    """A stand-in for a stream that counts the bytes that are read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self.taken += len(data)
        return data

    def __enter__(self) -> CountedReads:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"0123456789")
    assert read_path(file, SMALL) == read_uri(str(file), SMALL) == b"0123456789"
    with open_regular(file) as opened:
        assert opened.name == str(file)
        assert opened.read() == b"0123456789"
    file.write_bytes(b"0123456789a")
    with pytest.raises(TooLargeError, match=r"more than the .* MB that a small thing may have"):
        read_path(file, SMALL)
    with pytest.raises(StorageError, match="name the right file, or make this one smaller"):
        read_uri(str(file), SMALL)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_irregular_files_have_clear_errors(tmp_path: Path, kind: str) -> None:
    SPECIAL[kind](tmp_path / "x")
    with pytest.raises(NotRegularError, match=f"it is a {kind}.*; write its content to a file"):
        open_regular(tmp_path / "x")


def test_folders_and_missing_files_have_the_usual_errors(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
    with pytest.raises(ValueError, match="null byte"):
        open_regular("a\0b")


def test_a_file_that_becomes_a_pipe_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pipe(tmp_path / "x")
    (tmp_path / "y").touch()
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda path: real(tmp_path / "y"))
    with pytest.raises(NotRegularError):
        open_regular(tmp_path / "x")


def test_a_local_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_huge(tmp_path / "x")
    monkeypatch.setattr(user_files, "_chunks", lambda *_: pytest.fail("it was read"))
    with pytest.raises(TooLargeError):
        read_path(tmp_path / "x", user_files.ANNOTATIONS)


@pytest.mark.parametrize("limit", [SMALL, Limit("a large thing", 100 << 20)])
def test_remote_files_are_read_up_to_their_limit(limit: Limit) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/user_files/x", b"0123456789")
    assert read_uri("memory://user_files/x", limit) == b"0123456789"
    with pytest.raises(StorageError, match="does not exist"):
        read_uri("memory://user_files/none", limit)
    memory.pipe("/user_files/x", b"0123456789" * 2)
    if limit is SMALL:
        with pytest.raises(StorageError, match="a small thing may have"):
            read_uri("memory://user_files/x", limit)


@pytest.mark.parametrize("claimed", [None, 3])
def test_a_remote_size_that_is_unknown_or_wrong_is_no_way_around(
    monkeypatch: pytest.MonkeyPatch, claimed: int | None
) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/user_files/lies", bytes(1000))
    taken = []

    def counted(uri: str) -> CountedReads:
        taken.append(CountedReads(memory.open("/user_files/lies", "rb")))
        return taken[-1]

    def at_once(uri: str, *, at_most: int) -> bytes:
        taken.append(CountedReads(memory.open("/user_files/lies", "rb")))
        return read_bytes(uri, at_most=at_most)

    monkeypatch.setattr(user_files, "describe", lambda uri: {"size": claimed, "type": "file"})
    monkeypatch.setattr(user_files, "open_binary", counted)
    monkeypatch.setattr(user_files, "read_bytes", at_once)
    monkeypatch.setattr(user_files, "_SMALL_BYTES", 0)
    with pytest.raises(StorageError, match="a small thing may have"):
        read_uri("memory://user_files/lies", SMALL)
    assert len(taken) == 1
    assert taken[0].taken <= SMALL.max_bytes + 1


def test_a_remote_file_that_is_too_large_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_files, "describe", lambda uri: {"size": 5 << 30, "type": "file"})
    monkeypatch.setattr(user_files, "open_binary", lambda uri: pytest.fail("it was opened"))
    with pytest.raises(StorageError, match=r"the 4,096 MB that a JSON file of images may have"):
        read_uri("memory://user_files/x", user_files.ANNOTATIONS)


def test_json_of_zeros_is_given_up_at_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.json").write_bytes(b'{"images": [')
    os.truncate(tmp_path / "x.json", 3 << 30)
    taken = []
    real = user_files._chunks

    def counted(*args: Any) -> Any:
        for chunk in real(*args):
            taken.append(len(chunk))
            yield chunk

    monkeypatch.setattr(user_files, "_chunks", counted)
    with pytest.raises(ValueError, match="byte 12 is zero"):
        load_json(str(tmp_path / "x.json"), user_files.ANNOTATIONS)
    assert sum(taken) <= 1 << 24


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5_000, '{"a": }', "", b"\xff\xfe1"])
def test_invalid_json_is_one_kind_of_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_json_is_read_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes('\ufeff{"é": [1, 2.5, null]}'.encode())
    assert load_json(str(tmp_path / "x.json"), SMALL_JSON) == {"é": [1, 2.5, None]}


SMALL_JSON = Limit("a small JSON", 100)


def test_home_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    assert user_path("~/a") == Path("/home/x/a")
    assert user_path("~nobody-of-that-name/a") == Path("~nobody-of-that-name/a")
    with pytest.raises(VocabularyError, match="There is no vocabulary file ~nobody-of-that-name"):
        load_vocabulary("~nobody-of-that-name/a.yaml")


def test_errors_with_odd_names_can_be_printed() -> None:
    error = VocabularyError("There is no caf\udce9.yaml of a \ud83d.")
    assert str(error) == "There is no caf\\udce9.yaml of a \\ud83d."
    str(error).encode("utf-8")


@pytest.mark.parametrize("name", ["x", "x.json", "x.txt", "x.dat"])
def test_the_error_of_a_pipe_as_a_corpus_says_what_to_do(tmp_path: Path, name: str) -> None:
    make_pipe(tmp_path / name)
    with pytest.raises(StorageError, match=r"it is a pipe.*; write its content to a file"):
        list_corpus([str(tmp_path / name)])
