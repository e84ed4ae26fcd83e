"""Fuzzed files of trained models: an error of one sentence, or a model."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import faiss  # noqa: F401 - first, as its threads and torch's don't mix otherwise
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.embeddings import faiss_index
from tasks.prediction import checkpoint as zutis_checkpoint
from tasks.prediction.checkpoint import open_checkpoint
from tests.support.files.fuzzing import damaged, few, harmless, near_json, texts

pytestmark = pytest.mark.slow

DESCRIPTION = {
    "architecture": "made-ViT-8", "num_heads": 2, "num_queries": 3, "clip": "made-ViT-8:demo",
    "clip_digest": "0" * 64, "categories": ["owl", "kite"], "prompts": [["an owl"], ["a kite"]],
    "untrained": False,
}  # fmt: skip


OTHER_ARRAYS = [
    np.zeros((3, 8)), np.zeros(()), np.zeros((0,), np.float32), np.array([[{}]], dtype=object),
    np.zeros((3, 0), np.float32),
]  # fmt: skip


def _embeddings(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are fuzzed elsewhere."""
    found = {"query_embed": np.zeros((3, 2))}
    monkeypatch.setattr(zutis_checkpoint, "load_state_dict", lambda path: found)


@few(200)
@given(near_json(DESCRIPTION))
def test_descriptions(folder: Path, content: bytes) -> None:
    (folder / "text_embeddings.npy").unlink(missing_ok=True)
    (folder / "model.json").write_bytes(content)
    checkpoint = harmless(lambda: open_checkpoint(folder))
    if checkpoint is not None:
        assert all(isinstance(name, str) for name in checkpoint.categories)
        _ = checkpoint.default_clip, repr(checkpoint)


@few(150)
@given(
    damaged(_embeddings(np.zeros((3, 8), np.float32)))
    | st.sampled_from(OTHER_ARRAYS).map(_embeddings)
)
def test_text_embeddings(folder: Path, content: bytes) -> None:
    (folder / "model.json").write_text(
        '{"architecture": "a", "num_heads": 1, "num_queries": 3, "categories": ["owl", "kite"]}'
    )
    (folder / "text_embeddings.npy").write_bytes(content)
    harmless(lambda: open_checkpoint(folder))


def test_embeddings_that_claim_more_than_the_file_holds(folder: Path) -> None:
    header = _embeddings(np.zeros((3, 8), np.float32)).replace(b"(3, 8)", b"(3, 9999999999)")
    test_text_embeddings.hypothesis.inner_test(folder, header)


@few(100)
@given(texts)
def test_names_of_checkpoints(text: str) -> None:
    harmless(lambda: open_checkpoint(text))
    harmless(lambda: open_checkpoint(f"{text}:random:{text}"))


@few(100)
@given(
    st.sampled_from(["nprobe", "efSearch", "ht", "k_factor_rf", "x", ""]),
    texts
    | st.sampled_from(["-1", "0", "1e9", "99999999999999999999", "nan", "inf", "0x10", "1.5"]),
)
def test_search_parameters(name: str, value: str) -> None:
    for factory in ("IVF4,Flat", "HNSW8"):
        harmless(lambda factory=factory: faiss_index.check(factory, f"{name}={value}", 8, None))
