"""CoCA on a tiny copy of its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from storage.errors.exceptions import CorpusError
from storage.evaluation_sets.coca import open_coca
from tests.support.files.evaluation_layouts import write_image, write_map

OBJECT = np.array([[0, 255, 255, 0], [127, 128, 0, 0], [0, 0, 0, 254]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for category in ("whisk", "Accordion", "alarm clock"):
        write_image(tmp_path / f"image/{category}/x.jpg", (3, 4))
        write_map(tmp_path / f"binary/{category}/x.png", OBJECT)
    return tmp_path


def test_each_image_has_the_category_of_its_folder(folder):
    opened = open_coca(folder)
    assert (opened.name, len(opened.categories)) == ("coca", 80)
    assert [image.name for image in opened.images] == [
        "Accordion/x.jpg", "alarm clock/x.jpg", "whisk/x.jpg"
    ]  # fmt: skip
    for image, label in zip(opened.images, (1, 4, 80), strict=True):
        assert_array_equal(image.labels(), label * (OBJECT >= 128))
        assert opened.categories[label - 1] == image.name.partition("/")[0]
        assert image.instances() is None
        assert image.read().shape == (3, 4, 3)


def test_an_image_without_mask(folder):
    write_image(folder / "image/whisk/y.jpg", (3, 4))
    with pytest.raises(CorpusError, match=r"1 of 4 images have no label map .*whisk/y\.jpg"):
        open_coca(folder)


def test_a_folder_that_is_no_category(folder):
    (folder / "image/whisk").rename(folder / "image/fork")
    (folder / "binary/whisk").rename(folder / "binary/fork")
    with pytest.raises(CorpusError, match=r"1 folders that are none of its 80 .*fork"):
        open_coca(folder)
