"""CUB-200-2011 on a tiny copy of its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from storage.errors.exceptions import CorpusError
from storage.evaluation_sets.cub import open_cub200
from tests.support.files.evaluation_layouts import write_image, write_map

ALBATROSS, WREN = "001.Black_footed_Albatross", "002.House_Wren"
SHARES = np.array([[0, 51, 102, 127], [128, 153, 204, 255]])  # of five annotators
BIRD = SHARES >= 128


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paths = [f"{ALBATROSS}/A_1.jpg", f"{ALBATROSS}/A_2.jpg", f"{WREN}/W_1.jpg"]
    for path in paths:
        write_image(tmp_path / "CUB_200_2011/images" / path, (2, 4))
        write_map((tmp_path / "CUB_200_2011/segmentations" / path).with_suffix(".png"), SHARES)
    lists = {
        "classes.txt": f"1 {ALBATROSS}\n2 {WREN}\n",
        "images.txt": "".join(f"{number} {path}\n" for number, path in enumerate(paths, 1)),
        "train_test_split.txt": "1 1\n2 0\n3 0\n",
    }
    for name, text in lists.items():
        (tmp_path / "CUB_200_2011" / name).write_text(text)
    return tmp_path / "CUB_200_2011"


def test_fine_grained_names(folder):
    opened = open_cub200("cub200", folder)
    assert opened.categories == ("Black footed Albatross", "House Wren")
    assert [(image.image_id, image.name) for image in opened.images] == [
        (2, f"{ALBATROSS}/A_2.jpg"), (3, f"{WREN}/W_1.jpg"),
    ]  # fmt: skip
    for image, label in zip(opened.images, (1, 2), strict=True):
        assert_array_equal(image.labels(), label * BIRD)
        assert image.instances() is None
        assert image.read().shape == (2, 4, 3)


def test_the_high_level_name(folder):
    opened = open_cub200("cub200-bird", folder)
    assert opened.categories == ("bird",)
    assert len(opened.images) == 2
    for image in opened.images:
        assert_array_equal(image.labels(), BIRD)
    assert opened.digest() != open_cub200("cub200", folder).digest()


def test_segmentations_may_lie_beside_the_folder(folder):
    before = open_cub200("cub200", folder).digest()
    (folder / "segmentations").rename(folder.parent / "segmentations")
    assert open_cub200("cub200", folder).digest() == before


def test_missing_segmentations_are_counted(folder):
    (folder / f"segmentations/{WREN}/W_1.png").unlink()
    with pytest.raises(CorpusError, match=r"1 of 2 segmentations are missing .*W_1\.png"):
        open_cub200("cub200", folder)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train_test_split.txt", "1 1\n2 0\n", "differ in 1 images"),
        ("train_test_split.txt", "1 1\n2 1\n3 1\n", "no test image"),
        ("classes.txt", f"1 {ALBATROSS}\n3 {WREN}\n", "not numbered from 1"),
        ("classes.txt", f"1 {ALBATROSS}\n", "in no folder that classes.txt lists"),
        ("images.txt", "<html>\n", "1 lines of 1 that are no number and text"),
    ],
)
def test_lists_that_do_not_match(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(CorpusError, match=message):
        open_cub200("cub200", folder)
