"""Labels joined with images and masks, and content-defined cuts of shards."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.pipelines.build import Build
from flows.summaries.build import summarise
from storage.errors.exceptions import ConfigError, CorpusError
from tasks.packing.plan_shards import Category, Config, cut_shards
from tasks.stage.layout import CARD, RETRIEVAL, SAMPLES
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import build_here, rows_of, settings_of, write_vocabulary


def ids(count: int, seed: int) -> list[str]:
    return [hashlib.sha256(f"{seed}/{n}".encode()).hexdigest() for n in range(count)]


def loads(shards: np.ndarray, sizes: list[int]) -> np.ndarray:
    return np.bincount(shards, weights=sizes)


@pytest.mark.parametrize("seed", range(5))
def test_shards_hold_from_half_to_one_and_a_half(seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(20, 200, 5_000).tolist()
    shards = cut_shards(sorted(ids(5_000, seed)), sizes, 10_000)
    assert set(np.diff(shards)) <= {0, 1}
    *full, last = loads(shards, sizes)
    assert min(full) >= 5_000
    assert max(*full, last) <= 15_000
    assert 8_000 < np.mean(full) < 12_000  # about what was asked for


def test_a_sample_larger_than_a_shard_has_one_of_its_own() -> None:
    assert cut_shards(ids(3, 0), [10, 500, 10], 100).tolist() == [0, 1, 2]
    assert cut_shards(ids(1, 0), [500], 100).tolist() == [0]
    assert cut_shards([], [], 100).tolist() == []


def flat(groups: list[list[str]]) -> list[str]:
    return list(chain.from_iterable(groups))


def composition(image_ids: list[str]) -> set[tuple[str, ...]]:
    shards = cut_shards(image_ids, [100] * len(image_ids), 10_000)
    return {
        tuple(np.array(image_ids)[shards == number].tolist()) for number in range(shards[-1] + 1)
    }


@pytest.mark.slow
@pytest.mark.parametrize("categories", [1, 40])
def test_samples_that_are_added_change_only_the_shards_around_them(categories: int) -> None:
    """Within one category of many samples as well as with many categories of few: samples come
    sorted by image_id within each."""
    groups = [sorted(ids(8_000 // categories, seed)) for seed in range(categories)]
    before = composition(flat(groups))
    assert 60 < len(before) < 110
    changed = []
    for seed in range(20):
        [extra] = ids(1, 1_000 + seed)
        groups_after = [sorted([*groups[0], extra]), *groups[1:]]
        changed.append(len(before - composition(flat(groups_after))))
    assert np.median(changed) <= 3
    assert max(changed) <= 12


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus", ["red", "green", "blue"], each=6)
    return tmp_path / "corpus"


def card_of(built: Build) -> str:
    with built.dataset.open(CARD) as file:
        return file.read().decode()


def test_with_all_an_image_has_several_labels_and_the_likeliest_is_in_the_map(
    corpus: Path, tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    vocabulary = write_vocabulary(tmp_path / "v.txt", ["blue", "red and grey", "red"])
    built = build_here(settings_of(corpus, vocabulary, tmp_path / "s", overlap="all"))
    rows = rows_of(built.retrieval, RETRIEVAL)
    samples = rows_of(built.shard_plan, SAMPLES)
    assert max(len(sample["labels"]) for sample in samples) == 2
    for sample in samples:
        own = [row for row in rows if row["image_id"] == sample["image_id"]]
        own.sort(key=lambda row: -row["probability"])
        assert [label["category_id"] for label in sample["labels"]] == [
            row["category_id"] for row in own
        ]
        assert sample["label"] == own[0]["category_id"]
        assert sample["labels"][0]["rank"] == own[0]["rank"]
        assert sample["labels"][0]["score"] == own[0]["score"]
    keys = [(sample["label"], sample["image_id"]) for sample in samples]
    assert keys == sorted(keys)
    counts = {c["category_id"]: c for c in built.shard_plan.counts["categories"]}
    in_maps = Counter(sample["label"] for sample in samples)
    assert {number: c["masked"] for number, c in counts.items()} == {
        number: in_maps[number] for number in counts
    }
    assert any(c["kept"] and not c["masked"] for c in counts.values()), "a test of nothing"
    assert "no pixel in any label map: " in card_of(built)
    assert "no label" in summarise(built, []).facts


def test_counts_of_categories_add_up(
    corpus: Path, tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    Image.new("RGB", (40, 40), (255, 90, 90)).save(corpus / "blank.png")
    vocabulary = write_vocabulary(tmp_path / "v.txt", ["red", "red and grey", "blue"])
    built = build_here(settings_of(corpus, vocabulary, tmp_path / "s", per_category=8))
    rows = rows_of(built.retrieval, RETRIEVAL)
    samples = rows_of(built.shard_plan, SAMPLES)
    blank = {
        row["image_id"]
        for row in rows
        if row["image_id"] not in {sample["image_id"] for sample in samples}
    }
    assert built.shard_plan.counts["rejects"] == {"blank_mask": 1}
    assert len(blank) == 1, "the blank image is retrieved, and left out of the shards"
    labelled = Counter(sample["label"] for sample in samples)
    for category in built.shard_plan.counts["categories"]:
        own = [row for row in rows if row["category_id"] == category["category_id"]]
        assert category["retrieved"] == len(own) == 8
        assert category["kept"] == sum(row["kept"] for row in own)
        assert category["dropped"] == 8 - category["kept"]
        assert category["masked"] == labelled[category["category_id"]]
    assert sum(c["kept"] - c["masked"] for c in built.shard_plan.counts["categories"]) == 1
    assert built.shard_plan.counts["samples"] == len(samples)


def test_no_usable_mask_at_all_is_one_sentence(
    tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    for shade in range(5):
        Image.new("RGB", (40, 40), (200, shade, 40)).save(folder / f"{shade}.png")
    vocabulary = write_vocabulary(tmp_path / "v.txt", ["red"])
    with pytest.raises(CorpusError, match=r"None of the 4 retrieved images.*4 blank_mask"):
        build_here(settings_of(folder, vocabulary, tmp_path / "s"))


def test_shard_size_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="shard_mb"):
        Config(shard_bytes=0)


def test_prompts_and_synonyms_are_published_and_bare_names_keep_their_key() -> None:
    bare = Category(1, "kiwi", "53")
    assert bare.described == {"category_id": 1, "name": "kiwi", "external_id": "53"}
    words = Category(1, "kiwi", synonyms=("kiwi fruit",), prompts=("a {} cut open",))
    assert list(words.described["synonyms"]) == ["kiwi fruit"]
    assert list(words.described["prompts"]) == ["a {} cut open"]
