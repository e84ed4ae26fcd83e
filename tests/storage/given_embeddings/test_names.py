"""Names of images: an absolute path or an address in full, anything else by its end."""

from __future__ import annotations

import numpy as np
import pytest

from storage.given_embeddings.names import name_digests, names_of, plain_name
from storage.given_embeddings.table import NamedRows, NameIndex


def rows_of(names: list[str], rows: np.ndarray) -> tuple[NamedRows, NameIndex]:
    index = NameIndex()
    index.add([plain_name(name) for name in names])
    return NamedRows(*index.finished(rows), rows), index


def rows(*firsts: float) -> np.ndarray:
    return np.array([[first, 0.0] for first in firsts], np.float16)


@pytest.mark.parametrize(
    ("given", "uri", "member"),
    [
        ("/data/train/a.jpg", "/data/train/a.jpg", ""),
        ("file:///data/train/a.jpg", "/data/train/a.jpg", ""),
        ("train/a.jpg", "/data/train/a.jpg", ""),
        ("./train/a.jpg", "/data/train/a.jpg", ""),
        ("a.jpg", "/data/train/a.jpg", ""),
        ("a", "/data/train/a.jpg", ""),
        ("000010005", "/data/00001.tar", "000010005.jpg"),
        ("000010005", "/data/00001.tar", "./shard/000010005.jpg"),
        ("https://host/a.jpg?size=2", "https://host/a.jpg?size=2", ""),
    ],
)
def test_a_name_is_an_image_s_where_its_place_ends_so(given: str, uri: str, member: str) -> None:
    named, _ = rows_of(["other.jpg", given], rows(1, 2))
    assert named.find(names_of(uri, member)) == 1


@pytest.mark.parametrize(
    ("given", "uri", "member"),
    [
        ("/data/a.jpg", "/backup/data/a.jpg", ""),  # an absolute path is another file's
        ("rain/a.jpg", "/data/train/a.jpg", ""),  # part of a folder's name
        ("train/a.png", "/data/train/a.jpg", ""),
        ("00001.tar", "/data/00001.tar", "a.jpg"),
    ],
)
def test_other_names_are_not(given: str, uri: str, member: str) -> None:
    named, _ = rows_of([given], rows(1))
    assert named.find(names_of(uri, member)) is None


def test_the_longest_name_wins() -> None:
    named, _ = rows_of(["a.jpg", "train/a.jpg", "/data/train/a.jpg"], rows(1, 2, 3))
    assert named.find(names_of("/data/train/a.jpg", "")) == 2
    assert named.find(names_of("/else/train/a.jpg", "")) == 1
    assert named.find(names_of("/else/val/a.jpg", "")) == 0


def test_a_name_of_several_rows_counts_only_where_they_are_equal() -> None:
    named, index = rows_of(["a", "b", "a", "b", "", "c"], rows(1, 2, 1, 3, 4, 5))
    assert named.find(["a"]) == 0
    assert named.find(["b"]) is None
    assert named.find(["c"]) == 5
    assert (index.repeated, index.ambiguous, index.unnamed) == (1, 2, 1)


def test_no_rows_at_all_have_no_names() -> None:
    named, _ = rows_of([], np.empty((0, 2), np.float16))
    assert named.find(["a"]) is None


def test_names_that_are_no_utf8_have_digests() -> None:
    assert len(name_digests(["\udcff.jpg", "ü.jpg"])) == 2
