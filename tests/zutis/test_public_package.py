"""The public package: light to import, typed, and working as the README shows."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zutis
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask


def build_in(folder: Path) -> zutis.Dataset:
    """A data set of the photos in a folder, with its store beside them."""
    return zutis.build(
        corpus=(str(folder / "photos"),),
        vocabulary=str(folder / "colours.txt"),
        per_category=3,
        clip="made-ViT-8:random:0",
        selfmask="random:0",
        mask_size=40,
        store=str(folder / "store"),
    )


@pytest.fixture
def built(tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask) -> zutis.Dataset:
    write_corpus(tmp_path / "photos", ["red", "green"], each=3)
    (tmp_path / "colours.txt").write_text("red\ngreen\n")
    return build_in(tmp_path)


def test_importing_it_is_cheap_and_does_not_need_the_checkout(tmp_path):
    code = (
        "import sys, zutis\n"
        "heavy = {'torch', 'open_clip', 'faiss', 'prefect'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_it_is_typed_and_lists_its_names():
    assert Path(zutis.__file__).with_name("py.typed").exists()
    public = [getattr(zutis, name) for name in zutis.__all__]
    assert all(inspect.getdoc(item) for item in public)


def test_build_has_the_settings_of_the_command():
    taken = inspect.signature(zutis.build).parameters
    assert taken.keys() == zutis.BuildSettings.model_fields.keys()


def test_a_build_is_a_sequence_of_samples(built):
    assert built.categories == {1: "red", 2: "green"}
    assert len(built) == len(list(built)) == 6
    sample = built[-1]
    height, width = sample.image.shape[:2]
    assert sample.image.dtype == np.uint8
    assert sample.labels.shape == (height, width)
    assert set(np.unique(sample.labels)) == {0, 2}
    assert sample.facts["categories"][0]["name"] == "green"
    with pytest.raises(IndexError):
        built[6]


def test_a_second_build_computes_nothing(built, fake_clip, tmp_path):
    calls = dict(fake_clip.calls)
    again = build_in(tmp_path)
    assert dict(fake_clip.calls) == calls
    assert again.folder == built.folder


def test_a_data_set_is_opened_by_folder_key_or_as_the_latest(built, tmp_path):
    key = Path(built.folder).parent.name
    for place in (built.folder, Path(built.folder), key[:8], "latest"):
        opened = zutis.open_dataset(place, store=str(tmp_path / "store"))
        assert [sample.key for sample in opened] == [sample.key for sample in built]


def test_a_missing_data_set_is_one_sentence(tmp_path):
    with pytest.raises(zutis.ZutisError, match="no data set in"):
        zutis.open_dataset(store=str(tmp_path / "empty"))
    with pytest.raises(zutis.ZutisError, match="is not a data set"):
        zutis.open_dataset(tmp_path)
    with pytest.raises(zutis.ZutisError, match="no trained model"):
        zutis.segmenter(categories=["cat"], store=str(tmp_path / "empty"))


@pytest.mark.slow
def test_a_segmenter_of_any_names():
    segmenter = zutis.segmenter("made-ViT-8:random:0", ["zebra", "red kite"], device="cpu")
    result = segmenter.segment(np.zeros((40, 56, 3), np.uint8))
    assert result.labels.shape == (40, 56)
    assert segmenter.categories == ("zebra", "red kite")
