"""FAISS indices: equal results to exact search where that is guaranteed, and clear errors."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from storage.embeddings import faiss_index
from storage.embeddings.exact_search import exact_search
from storage.embeddings.parts import Block
from storage.errors.exceptions import ArtifactError, ConfigError, StorageError

K = 10


def rows_of(count: int = 600, dimension: int = 16) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


ROWS = rows_of()
QUERIES = np.random.default_rng(1).normal(size=(5, 16)).astype(np.float32)


def built(factory: str, seed: int = 0):
    blocks = [Block(start, ROWS[start : start + 250]) for start in range(0, len(ROWS), 250)]
    return faiss_index.build(factory, 16, ROWS.astype(np.float32), blocks, seed=seed)


def exact() -> np.ndarray:
    return exact_search([Block(0, ROWS)], QUERIES, K, fetch=lambda wanted: ROWS[wanted])[1]


@pytest.mark.parametrize(("factory", "parameters"), [("Flat", ""), ("IVF4,Flat", "nprobe=4")])
def test_exhaustive_indices_equal_exact_search(factory, parameters):
    _, found = faiss_index.search(built(factory), QUERIES, K, parameters)
    np.testing.assert_array_equal(found, exact())
    assert faiss_index.recall(found, exact()) == 1.0


def test_parameters_take_effect():
    index = built("IVF16,Flat")
    few = faiss_index.recall(faiss_index.search(index, QUERIES, K, "nprobe=1")[1], exact())
    many = faiss_index.recall(faiss_index.search(index, QUERIES, K, "nprobe=16")[1], exact())
    assert few < many == 1.0


def test_recall_ignores_the_order():
    truth = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    found = np.array([[4, 3, 2, 1], [5, -1, -1, 9]])
    assert faiss_index.recall(found, truth) == 5 / 8


def is_one_sentence(text: str) -> bool:
    return text.endswith(".") and "\n" not in text and ".cpp" not in text and "Error in" not in text


@pytest.mark.parametrize(
    "factory",
    [
        "nonsense",
        "",
        "PQ7",
        "IVF100000,Flat",
        "HNSW0",
        "HNSW1,Flat",
        "IVF8_HNSW1,Flat",
        "IVF0,Flat",
    ],
)
def test_unusable_factories(factory):
    with pytest.raises(ConfigError, match="choose another --index, or exact") as caught:
        built(factory)
    assert repr(factory) in str(caught.value)
    assert is_one_sentence(str(caught.value))


@pytest.mark.parametrize(
    "parameters", ["efSearch=3", "nprobe", "nprobe=abc", "nprobe=0", "nprobe=-1", "nprobe=2,x=1"]
)
def test_unusable_search_parameters(parameters):
    with pytest.raises(ConfigError, match="nprobe=16") as caught:
        faiss_index.search(built("IVF4,Flat"), QUERIES, K, parameters)
    assert repr(parameters) in str(caught.value)
    assert is_one_sentence(str(caught.value))


def test_files_are_faiss_files(tmp_path):
    path = str(tmp_path / "index.faiss")
    faiss_index.write(built("IVF4,Flat"), path)
    for index in (faiss.read_index(path), faiss_index.read(path)):
        assert index.ntotal == len(ROWS)
        np.testing.assert_array_equal(faiss_index.search(index, QUERIES, K, "nprobe=4")[1], exact())


ROTATED = pytest.param("OPQ4,IVF8,PQ4x4", marks=pytest.mark.slow)
ROTATED_EXACT = pytest.param("OPQ4,IVF8,Flat", marks=pytest.mark.slow)


@pytest.mark.parametrize("factory", ["Flat", "IVF8,Flat", ROTATED, "IVF8,SQfp16"])
def test_same_seed_gives_same_bytes(factory):
    one, other = (faiss.serialize_index(built(factory, seed=3)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("factory", ["IVF8,Flat", ROTATED_EXACT, "IVF8,Flat,RFlat"])
def test_seed_reaches_the_clustering(factory):
    one, other = (faiss.serialize_index(built(factory, seed=seed)) for seed in (3, 4))
    assert not np.array_equal(one, other)


def test_file_that_cannot_be_written(tmp_path):
    with pytest.raises(StorageError) as caught:
        faiss_index.write(built("Flat"), str(tmp_path / "none" / "index.faiss"))
    assert is_one_sentence(str(caught.value))


def test_file_that_is_no_index(tmp_path):
    (tmp_path / "index.faiss").write_bytes(b"no index")
    with pytest.raises(ArtifactError, match="--repair") as caught:
        faiss_index.read(str(tmp_path / "index.faiss"))
    assert is_one_sentence(str(caught.value))
