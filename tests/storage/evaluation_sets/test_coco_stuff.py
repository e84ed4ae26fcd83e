"""COCO-Stuff's maps on a tiny copy of their layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from storage.errors.exceptions import CorpusError
from storage.evaluation_sets.coco_stuff import open_coco_stuff
from storage.evaluation_sets.opening import open_evaluation_set
from tests.support.files.evaluation_layouts import write_image, write_map

# person, bicycle, traffic light (10), stop sign (13, as COCO left out some ids), toothbrush (90);
# the first and the last stuff category; unlabelled.
VALUES = np.array([[0, 1, 9, 12], [89, 91, 181, 255]])
LABELS = [[1, 2, 10, 12], [80, 0, 0, 65_535]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for stem in ("000000000785", "000000000139"):
        write_image(tmp_path / f"coco2017/val2017/{stem}.jpg", (2, 4))
        write_map(tmp_path / f"coco2017/stuffthingmaps/val2017/{stem}.png", VALUES)
    return tmp_path / "coco2017"


def test_things_are_the_categories_stuff_is_background_and_unlabelled_does_not_count(
    folder: Path,
) -> None:
    opened = open_evaluation_set("coco2017-val-stuff", folder.parent)
    image = opened.images[0]
    assert_array_equal(image.labels(), LABELS)
    assert image.instances() is None
    assert len(opened.categories) == 80
    assert (opened.categories[11], opened.own_id(12)) == ("stop sign", 13)


def test_images_keep_coco_s_ids_in_their_order(folder: Path) -> None:
    opened = open_coco_stuff(folder)
    assert [(image.image_id, image.name) for image in opened.images] == [
        (139, "000000000139.jpg"),
        (785, "000000000785.jpg"),
    ]


@pytest.mark.parametrize("place", ["stuffthingmaps_trainval2017/val2017", "annotations/val2017"])
def test_maps_may_lie_where_others_unpack_them(folder: Path, place: str) -> None:
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / "stuffthingmaps/val2017").rename(folder / place)
    (folder / place / "000000000139_labelTrainIds.png").touch()
    assert len(open_coco_stuff(folder).images) == 2


def test_values_that_are_no_id_are_refused(folder: Path) -> None:
    # 12 is "street sign", which no release annotates: in such a map, ids are not reduced by one.
    write_map(folder / "stuffthingmaps/val2017/000000000139.png", np.array([[11, 0, 0, 182]] * 2))
    image = open_coco_stuff(folder).images[0]
    with pytest.raises(CorpusError, match=r"no id of COCO-Stuff less one \(11, 182\)"):
        image.labels()


def test_an_image_without_map_is_named(folder: Path) -> None:
    (folder / "stuffthingmaps/val2017/000000000785.png").unlink()
    with pytest.raises(CorpusError, match=r"1 of 2 label maps are missing .*000000000785\.png"):
        open_coco_stuff(folder)


def test_the_archive_is_named_where_the_maps_are_not_there(tmp_path: Path) -> None:
    write_image(tmp_path / "coco2017/val2017/000000000139.jpg", (2, 4))
    with pytest.raises(CorpusError, match=r"no .*stuffthingmaps/val2017.*trainval2017\.zip"):
        open_evaluation_set("coco2017-val-stuff", tmp_path)
