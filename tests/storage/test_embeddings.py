"""Embedding files: what is refused, and how they are opened."""

from __future__ import annotations

import io
import uuid

import numpy as np
import pytest
from small_artifacts import RECIPE, REF

from storage.artifacts import Artifact, ArtifactStore
from storage.embeddings import open_embeddings, to_float16_rows, write_embeddings
from storage.errors import ArtifactError

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


def test_bytes_are_those_of_numpy_whatever_the_layout():
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
