"""Nearest neighbours of a text in exact order, independent of other searches."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from storage.artifacts.store import Artifact
from storage.errors.exceptions import ConfigError
from tasks.indexing.index_rows import load_index_rows
from tasks.retrieval import search_index
from tasks.retrieval.text_rows import TextRow, load_text_rows
from tasks.stage.layout import NEIGHBOURS
from tests.support.files.coloured_images import coloured_image, write_corpus
from tests.support.networks.fakes import FakeClip
from tests.support.runs.builds import rows_of
from tests.support.runs.stages import Stages

COLOURS = ["red", "green", "blue", "yellow"]


@pytest.fixture
def index(stages: Stages, corpus: Path, fake_clip: FakeClip) -> Artifact:
    write_corpus(corpus, COLOURS, each=10)
    return stages.index(stages.scan(corpus, part_images=16))


def found(search: Artifact) -> dict[str, list[tuple[int, str, float]]]:
    lists = defaultdict(list)
    for row in rows_of(search, NEIGHBOURS):
        assert row["rank"] == len(lists[row["text_id"]]) + 1
        lists[row["text_id"]].append((row["position"], row["image_id"], row["score"]))
    return dict(lists)


def exact(index: Artifact, stages: Stages, text: TextRow, k: int) -> list[int]:
    """By a plain sort of all scores in float64."""
    rows, _ = load_index_rows(index, stages.store)
    [query], _ = load_text_rows([text], stages.store)
    scores = (rows.fetch(np.arange(len(rows))) * query.astype(np.float64)).sum(axis=1)
    return np.lexsort((np.arange(len(rows)), -scores))[:k].tolist()


@pytest.mark.parametrize("k", [1, 7, 40])
def test_the_order_is_that_of_a_plain_sort(k: int, stages: Stages, index: Artifact) -> None:
    texts = stages.texts([*COLOURS, "red and blue"])
    neighbours = found(stages.search(index, texts, k))
    _, image_ids = load_index_rows(index, stages.store)
    for text in texts:
        positions = [position for position, _, _ in neighbours[text.text_id]]
        assert positions == exact(index, stages, text, k)
        assert [image_id for _, image_id, _ in neighbours[text.text_id]] == image_ids.take(
            positions
        ).to_pylist()


def test_ties_are_in_order_of_position(stages: Stages, corpus: Path, fake_clip: FakeClip) -> None:
    """Images of equal pixels and other bytes: CLIP can't tell them apart."""
    corpus.mkdir()
    for number in range(60):
        coloured_image("red", 1).save(corpus / f"{number:02d}.png", compress_level=number % 9)
        (corpus / f"{number:02d}.png").open("ab").write(bytes([number]))
    index = stages.index(stages.scan(corpus, part_images=7))
    assert index.counts["images"] == 60
    [text] = stages.texts(["red"])
    neighbours = found(stages.search(index, [text], 6))[text.text_id]
    assert [position for position, _, _ in neighbours] == list(range(6))
    assert len({score for _, _, score in neighbours}) == 1


def test_a_search_does_not_depend_on_its_company(stages: Stages, index: Artifact) -> None:
    texts = stages.texts(COLOURS)
    together = found(stages.search(index, texts, 9))
    for text in texts:
        assert found(stages.search(index, [text], 9)) == {text.text_id: together[text.text_id]}


def test_more_than_the_corpus_has_gives_all_of_it(stages: Stages, index: Artifact) -> None:
    [text] = stages.texts(["red"])
    neighbours = found(stages.search(index, [text], 500))[text.text_id]
    assert len(neighbours) == 40
    assert neighbours == found(stages.search(index, [text], 40))[text.text_id]
    with pytest.raises(ConfigError, match="at least 1"):
        search_index.Config(k=0, texts_prefix="")


@pytest.mark.parametrize(
    ("factory", "parameters"), [("IVF2,Flat", "nprobe=2"), ("HNSW8", "efSearch=64")]
)
def test_an_approximate_search_is_rescored_and_measured(
    factory: str, parameters: str, stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    write_corpus(corpus, COLOURS, each=10)
    plan = stages.scan(corpus, part_images=16)
    index = stages.index(plan, index=factory, index_search=parameters)
    texts = stages.texts(COLOURS)
    search = stages.search(index, texts, 5)
    exactly = stages.search(stages.index(plan), texts, 5)
    assert found(search) == found(exactly)  # all lists visited: the same neighbours and scores
    assert search.counts == {"texts": 4, "recall_k": 5, "recall": 1.0, "recall_texts": 4}
    assert exactly.counts == {"texts": 4}


def test_too_little_search_effort_for_k_is_reported_with_what_to_raise(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    write_corpus(corpus, ["red", "blue"], each=10)
    index = stages.index(stages.scan(corpus), index="IVF2,Flat", index_search="nprobe=1")
    with pytest.raises(ConfigError, match=r"fewer than 20.*--index-search"):
        stages.search(index, stages.texts(["red"]), 20)


def test_less_effort_shows_in_the_recall(stages: Stages, corpus: Path, fake_clip: FakeClip) -> None:
    write_corpus(corpus, COLOURS, each=10)
    index = stages.index(stages.scan(corpus), index="IVF4,Flat", index_search="nprobe=1")
    assert index.counts["recall_k"] == 40
    assert 0 < index.counts["recall"] < 0.6  # one list of four, of what would be everything


def test_the_device_is_not_in_the_key(stages: Stages, index: Artifact) -> None:
    inputs = search_index.Inputs(index.ref, tuple(stages.texts(["red"])))
    keys = {
        search_index.locate(
            search_index.Config(k=3, texts_prefix="p", device=device), inputs, stages.store
        )
        for device in ("cpu", "cuda")
    }
    assert len(keys) == 1
