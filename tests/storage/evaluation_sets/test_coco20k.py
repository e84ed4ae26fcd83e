"""COCO-20K on a tiny copy of its layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from storage.errors.exceptions import CorpusError
from storage.evaluation_sets.coco20k import open_coco20k
from tests.support.files.evaluation_layouts import annotation, box, write_coco

NAMES = [f"COCO_train2014_{number:012}.jpg" for number in (1, 2, 3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    annotations = [annotation(number, 18, box(0, 0, number, 2)) for number in (1, 2, 3)]
    write_coco(
        tmp_path / "annotations/instances_train2014.json",
        tmp_path / "train2014",
        dict.fromkeys(NAMES, (6, 8)),
        annotations,
        {18: "dog"},
    )
    (tmp_path / "train2014" / NAMES[1]).unlink()  # it is not on the list, so it is not needed
    write_list(tmp_path, [f"train2014/{NAMES[2]}", NAMES[0]])
    return tmp_path


def write_list(folder: Path, names: list[str]) -> None:
    (folder / "coco_20k_filenames.txt").write_text("\n".join(names) + "\n")


def test_it_has_the_images_of_the_list_in_the_order_of_their_ids(folder):
    opened = open_coco20k(folder)
    assert opened.name == "coco20k"
    assert len(opened.categories) == 80
    assert [image.image_id for image in opened.images] == [1, 3]
    assert [image.name for image in opened.images] == [NAMES[0], NAMES[2]]
    expected = np.zeros((6, 8))
    expected[0:3, 0:2] = 17
    assert_array_equal(opened.images[1].labels(), expected)
    (dog,) = opened.images[1].instances()
    assert (dog.category, dog.is_crowd) == (17, False)
    assert opened.images[1].read().shape == (6, 8, 3)


def test_annotations_of_other_images_are_not_looked_at(folder):
    path = folder / "annotations/instances_train2014.json"
    document = json.loads(path.read_text())
    before = open_coco20k(folder).digest()
    document["annotations"][1].update(category_id=999, segmentation=None)
    path.write_text(json.dumps(document))
    assert open_coco20k(folder).digest() == before


def test_a_listed_image_that_the_annotations_lack(folder):
    write_list(folder, [NAMES[0], "COCO_train2014_000000000009.jpg"])
    with pytest.raises(CorpusError, match=r"1 of 2 listed images are not in it \(first: 9\)"):
        open_coco20k(folder)


@pytest.mark.parametrize("lines", [[], [NAMES[0], "<html>"]])
def test_an_invalid_list(folder, lines):
    write_list(folder, lines)
    with pytest.raises(CorpusError, match=r"coco_20k_filenames\.txt has .* no file names"):
        open_coco20k(folder)
