"""Embedding files: refused content, and the ways to open them."""

from __future__ import annotations

import io
import uuid

import numpy as np
import pytest

from storage.artifacts.store import Artifact, ArtifactStore
from storage.embeddings.parts import (
    open_embeddings,
    read_embeddings,
    to_float16_rows,
    write_embeddings,
)
from storage.errors.exceptions import ArtifactError
from tests.support.files.small_artifacts import RECIPE, REF

ROWS = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float16)


def published(root: str, content: bytes) -> Artifact:
    store = ArtifactStore(root)
    with store.attempt(REF) as attempt:
        with attempt.create("rows.npy") as file:
            file.write(content)
        return store.publish(attempt, RECIPE)


def npy(rows: np.ndarray) -> bytes:
    file = io.BytesIO()
    write_embeddings(rows, file)
    return file.getvalue()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e5])
def test_rows_that_float16_cannot_hold_are_refused(bad):
    rows = np.ones((3, 4), dtype=np.float32)
    rows[1, 2] = bad
    with pytest.raises(ArtifactError, match="not finite: use --precision float32"):
        to_float16_rows(rows)


def test_rows_are_rounded_to_float16():
    rows = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    converted = to_float16_rows(rows)
    assert converted.dtype == np.float16
    np.testing.assert_allclose(converted, rows, rtol=2**-11)


def test_bytes_are_those_of_numpy_for_any_memory_layout():
    expected = io.BytesIO()
    np.save(expected, ROWS)
    assert npy(ROWS) == npy(np.asfortranarray(ROWS)) == expected.getvalue()


def test_local_file_is_memory_mapped_and_read_only(tmp_path):
    rows = open_embeddings(published(str(tmp_path), npy(ROWS)), "rows.npy")
    assert isinstance(rows, np.memmap)
    np.testing.assert_array_equal(rows, ROWS)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0


@pytest.mark.parametrize("rows", [ROWS, ROWS[:0]])
def test_object_stores(rows):
    opened = open_embeddings(published(f"memory://{uuid.uuid4().hex}", npy(rows)), "rows.npy")
    assert (opened.dtype, opened.shape) == (np.float16, rows.shape)
    np.testing.assert_array_equal(opened, rows)


def test_part_without_rows(tmp_path):
    rows = open_embeddings(published(str(tmp_path), npy(ROWS[:0])), "rows.npy")
    assert rows.shape == (0, 5)


@pytest.mark.parametrize("root", ["local", "memory"])
def test_pickles_and_other_files_are_refused(tmp_path, root):
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for content in (pickled.getvalue(), b"no array", npy(ROWS)[:-1]):
        place = str(tmp_path / uuid.uuid4().hex)
        if root == "memory":
            place = f"memory://{uuid.uuid4().hex}"
        artifact = published(place, content)
        with pytest.raises(ArtifactError, match=r"not an \.npy file of plain numbers"):
            open_embeddings(artifact, "rows.npy")


class TestReadEmbeddings:
    @staticmethod
    def written(rows: np.ndarray) -> io.BytesIO:
        file = io.BytesIO()
        write_embeddings(rows, file)
        file.seek(0)
        return file

    @pytest.mark.parametrize("rows_at_once", [1, 3, 7, 8])
    def test_gives_all_rows_in_order(self, rows_at_once):
        rows = np.arange(28, dtype=np.float16).reshape(7, 4)
        pieces = [piece.copy() for piece in read_embeddings(self.written(rows), rows_at_once)]
        assert all(len(piece) <= rows_at_once for piece in pieces)
        np.testing.assert_array_equal(np.concatenate(pieces), rows)

    def test_uses_one_buffer(self):
        rows = np.zeros((6, 4), dtype=np.float16)
        first, second = (piece.ctypes.data for piece in read_embeddings(self.written(rows), 3))
        assert first == second

    def test_no_rows_give_nothing(self):
        assert list(read_embeddings(self.written(np.empty((0, 4), np.float16)), 3)) == []

    def test_a_file_that_ends_early_is_refused(self):
        whole = self.written(np.zeros((6, 4), dtype=np.float16)).getvalue()
        with pytest.raises(ValueError, match="early"):
            list(read_embeddings(io.BytesIO(whole[:-1]), 3))

    @pytest.mark.parametrize(
        "rows", [np.zeros((6, 4), np.float32), np.zeros(6, np.float16), np.zeros((2, 2), "F")]
    )
    def test_other_arrays_are_refused(self, rows):
        with pytest.raises(ValueError, match="float16"):
            list(read_embeddings(self.written(rows), 3))
