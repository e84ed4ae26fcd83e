"""ImageNet-S on a tiny copy of its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from storage.errors.exceptions import CorpusError
from storage.evaluation_sets.imagenet_s import open_imagenet_s
from tests.support.files.evaluation_layouts import write_image, write_map

STEM = "n01443537/ILSVRC2012_val_00000236"
LABELS = np.array([[0, 1, 1, 1000], [300, 919, 256, 1000]])


def write(folder: Path, labels: np.ndarray) -> Path:
    write_image(folder / f"validation/{STEM}.JPEG", (2, 4), format="JPEG")
    colours = np.stack([labels % 256, labels // 256, np.zeros_like(labels)], axis=2)
    write_map(folder / f"validation-segmentation/{STEM}.png", colours, "RGB")
    return folder


def test_categories_are_in_red_and_green_and_1000_does_not_count(tmp_path):
    opened = open_imagenet_s(919, write(tmp_path, LABELS))
    assert (opened.name, opened.scoring) == ("imagenet-s919", "imagenet-s")
    assert len(opened.categories) == 919
    (image,) = opened.images
    assert image.name == f"{STEM}.JPEG"
    assert (image.height, image.width) == (2, 4)
    assert_array_equal(image.labels(), np.where(LABELS == 1000, 65_535, LABELS))
    assert image.instances() is None
    assert image.read().shape == (2, 4, 3)


@pytest.mark.parametrize(("categories", "first"), [(50, "goldfish"), (300, "tench")])
def test_the_smaller_sets_have_lists_of_their_own(tmp_path, categories, first):
    opened = open_imagenet_s(categories, write(tmp_path, np.minimum(LABELS, categories)))
    assert len(opened.categories) == categories
    assert opened.categories[0] == first
    assert opened.name == f"imagenet-s{categories}"


def test_labels_of_a_larger_set(tmp_path):
    (image,) = open_imagenet_s(50, write(tmp_path, LABELS)).images
    with pytest.raises(CorpusError, match=r"236\.png .* none of the 50 .* \(256, 300, 919\)"):
        image.labels()


def test_a_label_map_of_another_kind(tmp_path):
    write(tmp_path, LABELS)
    write_map(tmp_path / f"validation-segmentation/{STEM}.png", LABELS > 0)
    (image,) = open_imagenet_s(50, tmp_path).images
    with pytest.raises(CorpusError, match="pixels are L and not RGB"):
        image.labels()


def test_an_image_that_is_missing(tmp_path):
    write(tmp_path, LABELS)
    write_map(tmp_path / "validation-segmentation/n01443537/other.png", np.zeros((2, 4, 3)), "RGB")
    with pytest.raises(CorpusError, match=r"1 of 2 label maps have no image .*other\.png"):
        open_imagenet_s(50, tmp_path)
