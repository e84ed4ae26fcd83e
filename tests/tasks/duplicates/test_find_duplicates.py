"""Near-duplicates of a corpus are found, whatever was done to them, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.near_copies import CHANGES
from storage.artifacts.store import Artifact
from storage.errors.exceptions import ConfigError, CorpusError, ImageRejected
from tasks.duplicates import find_duplicates, thumbnails
from tasks.duplicates.find_duplicates import Config, Inputs
from tasks.indexing.index_rows import load_index_rows
from tasks.stage.contract import SilentProgress
from tasks.stage.layout import DUPLICATES, RETRIEVED_IMAGES
from tests.support.files.made_copies import names_of, write_copies, write_originals
from tests.support.networks.fakes import FakeClip
from tests.support.runs.builds import rows_of
from tests.support.runs.stages import Stages

WAYS = {
    "crop": {"cropped"}, "jpeg_30": {"encoded"}, "brighter": {"brightness"},
    "darker": {"brightness"}, "mirrored": {"mirrored"}, "quarter": {"resized"},
}  # fmt: skip


def find(stages: Stages, index: Artifact, retrieval: Artifact | None = None, **settings: Any):
    # The fake CLIP sees mean colours, which nearly all images share.
    config = Config(**({"least_similarity": 0.9, "threads": 2} | settings))
    inputs = Inputs(index.ref, retrieval.ref if retrieval else None)
    return find_duplicates.run(config, inputs, stages.store, SilentProgress())


def groups_of(stages: Stages, index: Artifact, found: Artifact) -> list[list[str]]:
    names, groups = names_of(stages, index), {}
    for row in rows_of(found, DUPLICATES):
        groups.setdefault(row["group"], []).append(row["image_id"])
    for group, members in groups.items():
        assert group == min(members)
    return sorted(sorted(names[member] for member in members) for members in groups.values())


@pytest.fixture
def index(stages: Stages, corpus: Path, fake_clip: FakeClip) -> Artifact:
    write_originals(corpus, 5)
    write_copies(corpus, 2, "mirrored", "jpeg_30")
    write_copies(corpus, 4, "crop")
    return stages.index(stages.scan(corpus, part_images=6))


GROUPS = [["2-jpeg_30.jpg", "2-mirrored.jpg", "2.png"], ["4-crop.jpg", "4.png"]]


def test_groups_are_found_with_the_ways_in_which_they_differ(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    write_originals(corpus, 5)
    write_copies(corpus, 2, *CHANGES)
    index = stages.index(stages.scan(corpus))
    found = find(stages, index)
    assert groups_of(stages, index, found) == [
        sorted(["2.png", *(f"2-{change}.jpg" for change in CHANGES)])
    ]
    names = names_of(stages, index)
    for row in rows_of(found, DUPLICATES):
        assert row["matches"] != row["image_id"]
        assert 0 <= row["distance"] <= Config().greatest_distance
        assert row["similarity"] == pytest.approx(1, abs=0.1)
        if names[row["matches"]].endswith(".png"):
            change = names[row["image_id"]].removeprefix("2-").removesuffix(".jpg")
            assert WAYS[change] <= set(row["way"].split(","))


def test_groups_are_counted(stages: Stages, index: Artifact) -> None:
    found = find(stages, index)
    assert groups_of(stages, index, found) == GROUPS
    candidates = found.counts["candidates"]
    assert found.counts == {
        "images": 8, "candidates": candidates, "unreadable": 0, "groups": 2, "duplicates": 3,
    }  # fmt: skip
    assert candidates >= 3


def test_a_retrieval_restricts_what_is_compared(stages: Stages, index: Artifact) -> None:
    retrieval = stages.retrieve(index, ["red", "blue"], 3)
    kept = {row["image_id"] for row in rows_of(retrieval, RETRIEVED_IMAGES)}
    found = find(stages, index, retrieval)
    assert found.counts["images"] == len(kept) < 8
    whole = {row["image_id"]: row["group"] for row in rows_of(find(stages, index), DUPLICATES)}
    some = {row["image_id"]: row["group"] for row in rows_of(found, DUPLICATES)}
    expected = {
        image_id
        for image_id in kept & whole.keys()
        if sum(whole[other] == whole[image_id] for other in kept & whole.keys()) > 1
    }
    assert some.keys() == expected
    assert expected


@pytest.mark.parametrize(
    ("factory", "parameters"), [("IVF2,Flat", "nprobe=2"), ("HNSW8", "efSearch=64")]
)
def test_an_approximate_index_gives_the_same_groups(
    factory: str, parameters: str, stages: Stages, index: Artifact, corpus: Path
) -> None:
    plan = stages.scan(corpus, part_images=6)
    approximate = stages.index(plan, index=factory, index_search=parameters)
    found = find(stages, approximate)
    assert groups_of(stages, approximate, found) == GROUPS


def test_threads_and_repetition_change_nothing(stages: Stages, index: Artifact) -> None:
    rows = rows_of(find(stages, index), DUPLICATES)
    assert rows_of(find(stages, index, threads=1), DUPLICATES) == rows


def test_settings_and_images_decide_the_key_and_threads_do_not(
    stages: Stages, index: Artifact
) -> None:
    retrieval = stages.retrieve(index, ["red"], 3)
    base = Inputs(index.ref)
    keys = [
        find_duplicates.locate(config, inputs, stages.store).key
        for config, inputs in [
            (Config(), base), (Config(threads=7, device="cuda"), base),
            (Config(greatest_distance=0.1), base), (Config(neighbours=3), base),
            (Config(least_similarity=0.5), base), (Config(), Inputs(index.ref, retrieval.ref)),
        ]
    ]  # fmt: skip
    assert keys[0] == keys[1]
    assert len(set(keys)) == 5


def test_images_that_cannot_be_decoded_are_counted_and_in_no_group(
    stages: Stages, index: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = thumbnails.decoded

    def fails_on_pngs(data: bytes):
        if data.startswith(b"\x89PNG"):
            raise ImageRejected("corrupt")
        return decoded(data)

    monkeypatch.setattr(thumbnails, "decoded", fails_on_pngs)
    found = find(stages, index)
    assert found.counts["unreadable"] == 5
    assert groups_of(stages, index, found) == [["2-jpeg_30.jpg", "2-mirrored.jpg"]]


def test_a_file_that_has_changed_stops_it(stages: Stages, index: Artifact, corpus: Path) -> None:
    write_originals(corpus, 1, first=20)
    (corpus / "20.png").rename(corpus / "2.png")
    with pytest.raises(CorpusError, match=r"2\.png can't be used any more"):
        find(stages, index)


def test_without_near_duplicates_the_table_is_empty(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    write_originals(corpus, 1)
    found = find(stages, stages.index(stages.scan(corpus)))
    assert rows_of(found, DUPLICATES) == []
    assert found.counts == {
        "images": 1, "candidates": 0, "unreadable": 0, "groups": 0, "duplicates": 0,
    }  # fmt: skip


def test_crops_of_elongated_images_do_not_count_as_images(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    """An index with rows of extra crops has its images first."""
    write_originals(corpus, 3)
    index = stages.index(stages.scan(corpus))
    rows, ids = load_index_rows(index, stages.store)
    assert rows.images == len(ids) == 3
    assert find(stages, index).counts["images"] == 3


@pytest.mark.parametrize(
    ("setting", "value"),
    [("least_similarity", 1.5), ("neighbours", 0), ("greatest_distance", -0.1)],
)
def test_settings_out_of_range_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=setting):
        Config(**{setting: value})
