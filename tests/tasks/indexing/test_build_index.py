"""The index: each image once, without removed files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.artifacts.store import Artifact
from storage.errors.exceptions import ConfigError, CorpusError
from tasks.indexing.build_index import Config
from tasks.indexing.index_rows import embedded_parts, load_index_rows
from tasks.stage.layout import FAISS_FILE, INDEX_IMAGES, RECORDS
from tests.support.files.bad_images import HTML, jpeg, write
from tests.support.files.coloured_images import coloured_image, write_corpus
from tests.support.networks.fakes import FakeClip
from tests.support.runs.builds import rows_of
from tests.support.runs.stages import Stages


def names_of(index: Artifact, stages: Stages) -> list[str]:
    """File names by position, found by way of the records that the index points at."""
    records = [rows_of(part, RECORDS) for part in embedded_parts(index, stages.store)]
    found = []
    for row in rows_of(index, INDEX_IMAGES):
        record = records[row["part"]][row["row"]]
        assert record["image_id"] == row["image_id"]
        found.append(Path(record["uri"]).name)
    return found


def test_positions_point_at_the_rows_of_the_parts(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    write_corpus(corpus, ["red", "green"], each=3)
    index = stages.index(stages.scan(corpus, part_images=4))
    assert names_of(index, stages) == sorted(path.name for path in corpus.iterdir())
    assert FAISS_FILE not in index.files
    rows, _ = load_index_rows(index, stages.store)
    streamed = np.concatenate([np.asarray(block.rows) for block in rows.blocks()])
    order = np.array([5, 0, 3, 0])
    np.testing.assert_array_equal(rows.fetch(order), streamed[order])
    assert [block.start for block in rows.blocks()] == [0, 4]


def test_images_of_which_clip_sees_the_middle_alone_are_counted(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    """Beyond 1.5 : 1 in either direction; each once; 3 : 2 in whole pixels is not beyond it."""
    corpus.mkdir()
    sizes = [(40, 61), (40, 62), (90, 40), (60, 40), (40, 40), (426, 640)]
    for number, size in enumerate(sizes):
        coloured_image("red", 1, size).save(corpus / f"{number}.png")
    coloured_image("red", 1, (90, 40)).save(corpus / "copy.png")
    assert stages.index(stages.scan(corpus, part_images=2)).counts == {
        "images": 6, "duplicates": 1, "rejects": {}, "elongated": 2
    }  # fmt: skip


def test_equal_bytes_are_one_image_wherever_they_are(
    stages: Stages, corpus: Path, tmp_path: Path, fake_clip: FakeClip
) -> None:
    """Within a part, across the parts of a source, and across sources."""
    for name, seed in {"a": 1, "b": 1, "c": 2, "d": 1, "e": 3}.items():
        write(corpus / f"{name}.jpg", jpeg(seed))
    write(tmp_path / "more" / "f.jpg", jpeg(2))
    write(tmp_path / "more" / "g.jpg", jpeg(4))
    index = stages.index(stages.scan(corpus, part_images=2), stages.scan(tmp_path / "more"))
    assert names_of(index, stages) == ["a.jpg", "c.jpg", "e.jpg", "g.jpg"]
    assert index.counts == {"images": 4, "duplicates": 3, "rejects": {}}
    rows, _ = load_index_rows(index, stages.store)
    streamed = np.concatenate([np.asarray(block.rows) for block in rows.blocks()])
    np.testing.assert_array_equal(streamed, rows.fetch(np.arange(4)))


def test_removed_files_drop_out_and_their_copies_take_their_place(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    for name, seed in {"a": 1, "b": 2, "c": 1}.items():
        write(corpus / f"{name}.jpg", jpeg(seed))
    write(corpus / "bad.jpg", HTML)
    stages.scan(corpus)
    (corpus / "a.jpg").unlink()
    (corpus / "bad.jpg").unlink()
    index = stages.index(stages.scan(corpus))
    assert names_of(index, stages) == ["b.jpg", "c.jpg"]
    assert index.counts["rejects"] == {}


def test_nothing_usable_says_why(stages: Stages, corpus: Path, fake_clip: FakeClip) -> None:
    write(corpus / "a.jpg", HTML)
    write(corpus / "b.jpg", b"")
    with pytest.raises(CorpusError, match=r"None of the 2 images.*1 empty_file, 1 not_an_image"):
        stages.index(stages.scan(corpus))
    assert stages.store.published("build_index") == []


@pytest.mark.parametrize(
    ("factory", "parameters", "least"),
    # Two lists, both visited, cover everything; parts of a graph may be unreachable.
    [("IVF2,Flat", "nprobe=2", 1.0), ("HNSW8", "efSearch=64", 0.5), ("HNSW8", "", 0.1)],
)
def test_an_approximate_index_is_a_faiss_file_with_its_recall(
    factory: str,
    parameters: str,
    least: float,
    stages: Stages,
    corpus: Path,
    fake_clip: FakeClip,
) -> None:
    import faiss

    write_corpus(corpus, ["red", "green", "blue", "yellow"], each=20)
    index = stages.index(
        stages.scan(corpus, part_images=30), index=factory, index_search=parameters
    )
    path = index.local_path(FAISS_FILE)
    assert path is not None
    assert faiss.read_index(str(path)).ntotal == index.counts["images"] == 80
    assert index.counts["recall_k"] == 80
    assert least <= index.counts["recall"] <= 1.0


def test_an_unknown_factory_is_one_sentence_and_leaves_nothing(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    write_corpus(corpus, ["red"], each=3)
    plan = stages.scan(corpus)
    with pytest.raises(ConfigError, match=r"FAISS can't build the index 'IFV2'.*--index"):
        stages.index(plan, index="IFV2")
    with pytest.raises(ConfigError, match="nprob=2"):
        stages.index(plan, index="IVF2,Flat", index_search="nprob=2")
    assert stages.store.published("build_index") == []


def test_search_parameters_need_an_approximate_index() -> None:
    with pytest.raises(ConfigError, match="index_search is 'nprobe=2'"):
        Config(index_search="nprobe=2")
