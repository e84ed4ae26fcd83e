"""The data set's folder: what other programs open."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from builds import build_here, settings_of, write_vocabulary
from fakes import FakeClip, FakeSelfMask
from pictures import write_corpus

from flows.pipeline import Build
from tasks.assemble_dataset import _cell
from tasks.layout import CARD, VOCABULARY

NAMES = ["red", "green", "blue"]


@pytest.fixture
def built(tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask) -> Build:
    write_corpus(tmp_path / "corpus", NAMES, each=4)
    vocabulary = write_vocabulary(tmp_path / "colours.txt", NAMES)
    return build_here(settings_of(tmp_path / "corpus", vocabulary, tmp_path / "store"))


def test_shards_have_contiguous_names_and_are_linked(built: Build) -> None:
    shards = [name for name in built.dataset.files if name.endswith(".tar")]
    assert len(shards) > 1
    assert sorted(shards) == [f"colours-{n:06d}.tar" for n in range(len(shards))]
    for name in shards:
        assert Path(built.dataset.uri(name)).stat().st_nlink == 2


def test_the_vocabulary_is_beside_the_shards(built: Build) -> None:
    assert built.dataset.read_json(VOCABULARY) == [
        {"category_id": number, "name": name, "external_id": ""}
        for number, name in enumerate(NAMES, start=1)
    ]


def test_the_card_says_what_it_is_and_what_made_it(built: Build) -> None:
    card = built.dataset.open(CARD).read().decode()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["configs"] == [{"config_name": "default", "data_files": "*.tar"}]
    for number, name in enumerate(NAMES, start=1):
        assert f"| {number} | {name} | 4 | 4 | 0 |" in body
    assert "12 pictures with pseudo-labels for 3 categories" in body
    assert str(built.shard_plan.ref) in body
    assert str(built.retrieval.ref) in body
    assert "licences" in body.lower()
    assert "Made with untrained weights" in body
    assert built.dataset.notes["untrained"] is True


def test_trained_weights_are_not_called_untrained(built: Build, tmp_path: Path) -> None:
    from tasks import assemble_dataset
    from tasks.stage import SilentProgress

    shards = built.dataset.manifest["inputs"]["shards"]
    from storage.artifacts import ArtifactRef

    artifact = assemble_dataset.run(
        assemble_dataset.Config(name="x", clip="A:0123", selfmask="B:4567", untrained=False),
        assemble_dataset.Inputs(
            built.shard_plan.ref, tuple(ArtifactRef("pack_shards", key) for key in shards)
        ),
        built.dataset.store,
        SilentProgress(),
    )
    card = artifact.open(CARD).read().decode()
    assert "untrained" not in card
    assert "`A:0123`" in card
    assert "x-{000000.." in card


def test_names_stay_within_their_cells() -> None:
    assert _cell("a|b\\c") == "a\\|b\\\\c"


@pytest.mark.slow
def test_hugging_face_datasets_reads_the_shards(
    built: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True, raising=False)
    samples = datasets.load_dataset(
        "webdataset",
        data_files=f"{built.dataset.location}/colours-*.tar",
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert len(samples) == 12
    sample = samples[0]
    assert sample["jpg"].size == sample["mask.png"].size == (40, 48)
    assert sample["json"]["categories"][0]["name"] == "red"
