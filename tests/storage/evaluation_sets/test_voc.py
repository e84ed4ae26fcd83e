"""PASCAL VOC 2012 on a tiny copy of its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from storage.errors.exceptions import CorpusError
from storage.evaluation_sets.voc import open_voc2012_val
from tests.support.files.evaluation_layouts import write_image, write_map

LABELS = np.array([[0, 0, 255], [1, 20, 255]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for stem in ("2007_000033", "2007_000042", "2007_000061"):
        write_image(tmp_path / f"JPEGImages/{stem}.jpg", (2, 3))
        write_map(tmp_path / f"SegmentationClass/{stem}.png", LABELS, "P")
    write_list(tmp_path, "2007_000061\n2007_000033\n")
    return tmp_path


def write_list(folder: Path, text: str) -> None:
    path = folder / "ImageSets/Segmentation/val.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_it_has_the_images_of_the_list(folder):
    opened = open_voc2012_val(folder)
    assert opened.name == "voc2012-val"
    assert [image.name for image in opened.images] == ["2007_000061.jpg", "2007_000033.jpg"]
    assert opened.images[0].read().shape == (2, 3, 3)


def test_labels_are_indices_and_borders_do_not_count(folder):
    opened = open_voc2012_val(folder)
    image = opened.images[0]
    assert_array_equal(image.labels(), [[0, 0, 65_535], [1, 20, 65_535]])
    assert (opened.categories[0], opened.categories[19]) == ("aeroplane", "tv/monitor")
    assert image.instances() is None


def test_files_that_are_missing_are_counted(folder):
    (folder / "SegmentationClass/2007_000033.png").unlink()
    with pytest.raises(CorpusError, match=r"1 of 2 label maps are missing .*2007_000033\.png"):
        open_voc2012_val(folder)


def test_an_empty_list(folder):
    write_list(folder, "\n")
    with pytest.raises(CorpusError, match=r"val\.txt is empty"):
        open_voc2012_val(folder)


def test_the_digest_is_of_the_label_maps(folder, tmp_path):
    before = open_voc2012_val(folder).digest()
    write_map(folder / "SegmentationClass/2007_000042.png", LABELS * 0, "P")  # not on the list
    assert open_voc2012_val(folder).digest() == before
    write_map(folder / "SegmentationClass/2007_000033.png", LABELS * 0, "P")
    assert open_voc2012_val(folder).digest() != before
