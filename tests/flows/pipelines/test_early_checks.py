"""Errors that can be known early are raised before the first image is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from flows.pipelines import early_checks
from storage.artifacts.store import ArtifactStore
from storage.errors.exceptions import ConfigError, VocabularyError, WeightsError
from tests.support.files.bad_images import tar_bytes, write
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import build_here, clip, settings_of, write_vocabulary
from tests.support.runs.stages import Stages


@pytest.fixture
def settings(tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask) -> Any:
    write_corpus(tmp_path / "corpus", ["red", "blue"], each=6)
    vocabulary = write_vocabulary(tmp_path / "v.txt", ["red", "blue"])

    def settings(**changes: Any) -> Any:
        return settings_of(tmp_path / "corpus", vocabulary, tmp_path / "store", **changes)

    return settings


@pytest.mark.parametrize(
    ("index", "search", "says"),
    [
        ("IVF16,Flat", "", "from 12 images: it needs 16 to be trained on"),
        ("PQ8", "", "from 12 images: it needs 256"),
        ("OPQ8,IVF4,PQ8", "", "from 12 images: it needs 256"),
        ("IFV4,Flat", "", "could not parse index string"),
        ("PQ7", "", "multiple of the number of subquantizers"),
        ("IVF4,Flat", "nprob=2", "could not set parameter nprob"),
    ],
)
def test_an_index_that_can_t_be_stops_before_any_image(
    settings: Any, fake_clip: FakeClip, index: str, search: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        build_here(settings(index=index, index_search=search))
    assert fake_clip.calls["images"] == 0


def test_what_can_be_is_left_alone(settings: Any) -> None:
    assert build_here(settings(index="IVF2,Flat", index_search="nprobe=2")).index.counts["recall"]


def test_a_file_of_another_network_stops_before_any_image(
    settings: Any, fake_clip: FakeClip, tmp_path: Path
) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt.* can't be loaded as selfmask"):
        build_here(settings(selfmask=str(tmp_path / "other.pt")))
    assert fake_clip.calls["images"] == 0


def test_names_that_clip_reads_as_one_stop_before_any_image(
    settings: Any, fake_clip: FakeClip, tmp_path: Path
) -> None:
    write_vocabulary(tmp_path / "v.txt", ["red", "red thing"])
    with pytest.raises(VocabularyError, match="'red' and 'red thing' as one text"):
        build_here(settings())
    assert fake_clip.calls["images"] == 0


def test_how_many_images_tars_hold_nobody_knows(tmp_path: Path) -> None:
    write(tmp_path / "corpus" / "a.tar", tar_bytes([("a.jpg", b"x")]))
    plan = Stages(ArtifactStore(str(tmp_path / "store"))).scan(tmp_path / "corpus")
    assert early_checks.at_most([plan]) is None
    assert early_checks.all_are_taken(1_000, [plan]) == ""
    early_checks.check_index("IVF1024,Flat", "", clip(), [plan])
