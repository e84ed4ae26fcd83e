"""Users' own images with label maps."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from storage.annotations.label_maps import (
    LabelCoding,
    LabelMapGroundTruth,
    open_folders,
    own_values,
)
from storage.errors.exceptions import ConfigError, CorpusError
from tests.support.files.evaluation_layouts import write_image, write_map


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_image(tmp_path / "mine/a.jpg", (2, 3))
    write_image(tmp_path / "mine/more/b.png", (3, 2))
    return tmp_path / "mine"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    write_map(tmp_path / "labels/a.png", [[0, 1, 2], [255, 2, 0]])
    write_map(tmp_path / "labels/more/b.png", [[0, 1], [2, 65_535], [0, 0]], "I;16")
    (tmp_path / "labels/names.txt").write_text("owl\nred kite\n")
    return tmp_path / "labels"


def test_labels_of_8_and_of_16_bits(images, labels):
    opened = open_folders(images, labels)
    assert opened.name == "mine"
    assert opened.categories == ("owl", "red kite")
    assert [image.name for image in opened.images] == ["a.jpg", "more/b.png"]
    assert [image.image_id for image in opened.images] == [1, 2]
    first, second = opened.images
    assert_array_equal(first.labels(), [[0, 1, 2], [65_535, 2, 0]])
    assert_array_equal(second.labels(), [[0, 1], [2, 65_535], [0, 0]])
    assert first.labels().dtype == second.labels().dtype == np.uint16
    assert first.instances() is None
    assert second.read().shape == (3, 2, 3)


def test_255_is_a_label_of_16_bits_as_any_other(images, labels):
    write_map(labels / "more/b.png", [[0, 255]], "I;16")
    with pytest.raises(CorpusError, match=r"b\.png .* none of the 2 categories \(255\)"):
        open_folders(images, labels).images[1].labels()


def test_names_in_a_file_of_their_own(images, labels, tmp_path):
    (tmp_path / "birds.yaml").write_text("categories: [owl, kite, wren]\n")
    opened = open_folders(images, labels, tmp_path / "birds.yaml")
    assert opened.categories == ("owl", "kite", "wren")


def test_without_names(images, labels):
    (labels / "names.txt").unlink()
    with pytest.raises(ConfigError, match="no list of names"):
        open_folders(images, labels)
    (labels.parent / "names.txt").write_text("owl\nkite\n")
    assert open_folders(images, labels).categories == ("owl", "kite")


def test_files_are_read_on_demand(images, labels):
    (images / "a.jpg").write_bytes(b"no image")
    (labels / "a.png").write_bytes(b"no map")
    image = open_folders(images, labels).images[0]
    with pytest.raises(CorpusError, match=r"labels/a\.png can't be used: it is damaged or no PNG"):
        image.labels()


def test_a_label_map_that_ends_early(images, labels):
    rng = np.random.default_rng(0)
    write_map(labels / "a.png", rng.integers(0, 3, (64, 64)))
    data = (labels / "a.png").read_bytes()
    (labels / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(CorpusError, match=r"a\.png can't be used: it is damaged"):
        open_folders(images, labels).images[0].labels()


def test_a_label_map_of_another_size_than_its_image(images, labels):
    write_map(labels / "a.png", [[0, 1]])
    with pytest.raises(CorpusError, match=r"a\.jpg has 2 x 3 pixels .* annotations 1 x 2"):
        open_folders(images, labels).images[0].read()


def test_colours_are_no_labels(images, labels):
    write_map(labels / "a.png", np.zeros((2, 3, 3)), "RGB")
    with pytest.raises(CorpusError, match="pixels are RGB and not one number each"):
        open_folders(images, labels).images[0].labels()


def test_images_that_differ_in_their_ending_alone(images, labels):
    write_image(images / "a.png", (2, 3))
    with pytest.raises(CorpusError, match="same name but for the ending"):
        open_folders(images, labels)


def test_a_folder_that_does_not_exist(images, labels):
    with pytest.raises(ConfigError, match=r"no folder .*nowhere"):
        open_folders(images, labels / "nowhere")


def test_no_image_at_all(tmp_path, labels):
    for path in labels.rglob("*.png"):
        path.unlink()
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="empty has no image"):
        open_folders(tmp_path / "empty", labels)


def test_it_can_be_sent_to_worker_processes(images, labels):
    opened = open_folders(images, labels)
    again = pickle.loads(pickle.dumps(opened))
    assert again.digest() == opened.digest()
    assert_array_equal(again.images[0].labels(), opened.images[0].labels())


@pytest.fixture
def one_name(labels: Path) -> Path:
    (labels / "names.txt").write_text("owl\n")
    return labels


def test_masks_of_0_and_the_highest_value_are_objects_of_the_one_name(images, one_name):
    write_map(one_name / "a.png", [[0, 255, 0], [255, 255, 0]])
    write_map(one_name / "more/b.png", [[0, 65_535], [0, 0], [0, 0]], "I;16")
    opened = open_folders(images, one_name)
    assert_array_equal(opened.images[0].labels(), [[0, 1, 0], [1, 1, 0]])
    assert_array_equal(opened.images[1].labels(), [[0, 1], [0, 0], [0, 0]])
    (note,) = opened.notes
    assert "binary masks" in note
    assert "owl" in note


def test_one_pixel_of_the_label_anywhere_means_that_255_does_not_count(images, one_name):
    write_map(one_name / "a.png", [[0, 255, 0], [255, 255, 0]])
    write_map(one_name / "more/b.png", [[0, 1], [0, 0], [0, 0]])
    opened = open_folders(images, one_name)
    assert_array_equal(opened.images[0].labels(), [[0, 65_535, 0], [65_535, 65_535, 0]])
    assert opened.notes == ()


def test_maps_of_background_alone_are_no_binary_masks(images, one_name):
    write_map(one_name / "a.png", [[0, 0, 0], [0, 0, 0]])
    write_map(one_name / "more/b.png", [[0, 0], [0, 0], [0, 0]])
    assert open_folders(images, one_name).notes == ()


def test_label_and_binary_readings_of_the_same_files_have_digests_of_their_own(images, one_name):
    write_map(one_name / "a.png", [[0, 255, 0], [255, 255, 0]])
    write_map(one_name / "more/b.png", [[0, 255], [0, 0], [0, 0]])
    one = open_folders(images, one_name)
    as_labels = LabelCoding(values=own_values, num_categories=1, ignored=65_535)
    truth = LabelMapGroundTruth(one.images[0].ground_truth.uri, as_labels)
    assert truth.digest() != one.images[0].ground_truth.digest()
