"""Embeddings as other tools write them: clip-retrieval's folders, the authors' pickles."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from storage.errors.exceptions import ConfigError, CorpusError
from storage.given_embeddings import clip_retrieval
from storage.given_embeddings.source import GivenEmbeddings, open_given

RNG = np.random.default_rng(5)


def write_pair(
    folder: Path, number: str, names: list[str | None], rows: np.ndarray, column: str = "image_path"
) -> None:
    """As clip-retrieval does."""
    (folder / "img_emb").mkdir(parents=True, exist_ok=True)
    (folder / "metadata").mkdir(exist_ok=True)
    np.save(folder / "img_emb" / f"img_emb_{number}.npy", rows)
    table = pa.table({column: names, "caption": ["a"] * len(names)})
    pq.write_table(table, folder / "metadata" / f"metadata_{number}.parquet")


def content(given: GivenEmbeddings) -> tuple[list[str], np.ndarray]:
    names: list[str] = []
    blocks = []
    for block, rows in given.blocks():
        names += block
        blocks.append(np.array(rows, np.float32))
    return names, np.concatenate(blocks)


# --- clip-retrieval -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_files_of_a_folder_are_read_by_their_numbers(tmp_path: Path, dtype: Any) -> None:
    rows = RNG.normal(size=(5, 4)).astype(dtype)
    write_pair(tmp_path, "10", ["d", "e"], rows[3:])
    write_pair(tmp_path, "9", ["a", "b", None], rows[:3])
    given = open_given(str(tmp_path))
    names, found = content(given)
    assert names == ["a", "b", "", "d", "e"]
    np.testing.assert_array_equal(found, rows.astype(np.float32))


def test_blocks_and_row_groups_needn_t_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_retrieval, "_ROWS_AT_ONCE", 3)
    rows = RNG.normal(size=(8, 2)).astype(np.float16)
    write_pair(tmp_path, "0", [str(n) for n in range(8)], rows)
    names, found = content(open_given(str(tmp_path)))
    assert names == [str(n) for n in range(8)]
    np.testing.assert_array_equal(found, rows)


def test_keys_name_images_where_there_is_no_path(tmp_path: Path) -> None:
    write_pair(tmp_path, "0", ["000010005"], np.ones((1, 2), np.float32), column="key")
    assert content(open_given(str(tmp_path)))[0] == ["000010005"]


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]])
def test_rows_and_names_must_be_as_many(tmp_path: Path, names: list[str | None]) -> None:
    write_pair(tmp_path, "0", names, np.ones((2, 2), np.float32))
    with pytest.raises(CorpusError, match="don't have the same number of rows"):
        content(open_given(str(tmp_path)))


def test_a_folder_without_its_metadata_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "0", ["a"], np.ones((1, 2), np.float32))
    (tmp_path / "metadata" / "metadata_0.parquet").unlink()
    with pytest.raises(CorpusError, match=r"metadata_0\.parquet is missing"):
        open_given(str(tmp_path))


def test_metadata_that_names_no_image_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "0", ["a"], np.ones((1, 2), np.float32), column="text")
    with pytest.raises(CorpusError, match="names no image"):
        content(open_given(str(tmp_path)))


def test_a_damaged_array_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "0", ["a"], np.ones((1, 2), np.float32))
    path = tmp_path / "img_emb" / "img_emb_0.npy"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorpusError, match="ends early"):
        content(open_given(str(tmp_path)))
    path.write_bytes(b"no array")
    with pytest.raises(CorpusError, match=r"is no \.npy file"):
        content(open_given(str(tmp_path)))
    np.save(path, np.array([["a"]], dtype=object), allow_pickle=True)
    with pytest.raises(CorpusError, match=r"is no \.npy file"):
        content(open_given(str(tmp_path)))


# --- pickles ------------------------------------------------------------------------------------


def write_pickle(path: Path, value: Any) -> str:
    path.write_bytes(pickle.dumps(value))
    return str(path)


AUTHORS_NAME = "filename_to_ViT_L_14_336px_train_img_embedding.pkl"


def test_tensors_are_read_as_the_authors_keep_them(tmp_path: Path) -> None:
    batch = torch.tensor(RNG.normal(size=(3, 4)), dtype=torch.float32)
    # Rows of a batch share its storage, as they do after `image_embeddings[i]`.
    value = {f"n{i}.JPEG": batch[i].to(torch.float32) for i in range(3)}
    write_pickle(tmp_path / AUTHORS_NAME, value)
    given = open_given(str(tmp_path))
    assert (given.kind, given.model) == ("pickle", "ViT_L_14_336px")
    names, found = content(given)
    assert names == ["n0.JPEG", "n1.JPEG", "n2.JPEG"]
    np.testing.assert_array_equal(found, batch.numpy())


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_are_read(tmp_path: Path, protocol: int) -> None:
    value = {"a.jpg": np.arange(3, dtype=np.float32), "b.jpg": np.ones(3, np.float16)}
    path = tmp_path / "mine.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    names, found = content(open_given(str(path)))
    assert names == ["a.jpg", "b.jpg"]
    np.testing.assert_array_equal(found, [[0, 1, 2], [1, 1, 1]])


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_nothing_of_a_pickle_is_executed(tmp_path: Path) -> None:
    place = write_pickle(tmp_path / "evil.pkl", {"a.jpg": Malicious(tmp_path / "pwned")})
    with pytest.raises(CorpusError, match=r"asks for (posix|nt)\.mkdir"):
        content(open_given(place))
    assert not (tmp_path / "pwned").exists()


def test_a_tensor_within_which_a_pickle_hides_is_not_executed(tmp_path: Path) -> None:
    """The numbers of a tensor are a file of torch's in the pickle."""
    inner = pickle.dumps(Malicious(tmp_path / "pwned"))

    class Storage:
        def __reduce__(self) -> Any:
            return torch.storage._load_from_bytes, (inner,)

    place = write_pickle(tmp_path / "evil.pkl", {"a.jpg": Storage()})
    with pytest.raises(CorpusError, match="can't be read"):
        content(open_given(place))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("value", [["a"], {}, {1: np.ones(2)}, {"a": 1.0}, {"a": "text"}])
def test_other_pickles_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(CorpusError, match="no dictionary from file names"):
        content(open_given(write_pickle(tmp_path / "x.pkl", value)))


def test_rows_of_several_widths_are_refused(tmp_path: Path) -> None:
    value = {"a.jpg": np.ones(3, np.float32), "b.jpg": np.ones(4, np.float32)}
    with pytest.raises(CorpusError, match="several widths"):
        content(open_given(write_pickle(tmp_path / "x.pkl", value)))


def test_damaged_bytes_are_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"a": np.ones(3, np.float32)})[:-9])
    with pytest.raises(CorpusError, match="can't be read as a pickle"):
        content(open_given(str(path)))


# --- either -------------------------------------------------------------------------------------


def test_a_name_that_tells_of_another_model_is_refused(tmp_path: Path) -> None:
    write_pickle(tmp_path / AUTHORS_NAME, {"a": np.ones(3, np.float32)})
    given = open_given(str(tmp_path))
    given.check_model("ViT-L-14-336-quickgelu")
    with pytest.raises(ConfigError, match="ViT_L_14_336px, by its name, and --clip is ViT-B-32"):
        given.check_model("ViT-B-32")


def test_places_without_embeddings_are_refused(tmp_path: Path) -> None:
    for place, match in (
        (str(tmp_path), "has no embeddings"),
        (str(tmp_path / "none"), "no embeddings at"),
    ):
        with pytest.raises(CorpusError, match=match):
            open_given(place)


def test_the_fingerprint_changes_with_a_file(tmp_path: Path) -> None:
    write_pair(tmp_path, "0", ["a"], np.ones((1, 2), np.float32))
    before = open_given(str(tmp_path)).fingerprint
    write_pair(tmp_path, "1", ["b"], np.ones((1, 2), np.float32))
    assert open_given(str(tmp_path)).fingerprint != before
