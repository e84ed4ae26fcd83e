"""COCO 2017 val and own data in COCO's format, on tiny copies of the layout."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from pycocotools import mask as coco_mask

from storage.annotations.evaluation_set import EvaluationSet
from storage.errors.exceptions import CorpusError
from storage.evaluation_sets.coco import open_coco2017_val, open_coco_json
from tests.support.files.evaluation_layouts import annotation, box, runs, write_coco, write_image

PERSON, DOG, STOP_SIGN, TOOTHBRUSH = 1, 18, 13, 90
NAMES = {1: "person", 13: "stop sign", 18: "dog", 90: "toothbrush"}
SIZE = (12, 16)


def crowd_mask() -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[0:6, 0:14] = True
    return mask


ANNOTATIONS = [
    annotation(1, DOG, box(2, 2, 4, 4), area=4.0),
    annotation(1, PERSON, box(0, 0, 10, 10), area=100.0),
    annotation(1, STOP_SIGN, runs(crowd_mask()), area=1.0, iscrowd=1),
    annotation(2, TOOTHBRUSH, box(1, 1, 3, 5) + box(5, 5, 7, 7), area=12.5),
]
IMAGES = {"a.jpg": SIZE, "b.jpg": (8, 9), "c.jpg": (5, 7)}


def write(folder: Path, annotations: list[dict[str, Any]] = ANNOTATIONS) -> dict[str, Any]:
    file = folder / "annotations/instances_val2017.json"
    return write_coco(file, folder / "val2017", IMAGES, annotations, NAMES)


def rewrite(folder: Path, document: Any) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    (folder / "annotations/instances_val2017.json").write_text(text)


@pytest.fixture
def opened(tmp_path: Path) -> EvaluationSet:
    write(tmp_path)
    return open_coco2017_val(tmp_path)


def test_the_set_has_cocos_categories_and_all_its_images(opened):
    assert opened.name == "coco2017-val"
    assert len(opened.categories) == 80
    assert opened.categories[0] == "person"
    assert opened.categories[79] == "toothbrush"
    assert [image.image_id for image in opened.images] == [1, 2, 3]
    assert [image.name for image in opened.images] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [(image.height, image.width) for image in opened.images] == list(IMAGES.values())
    assert opened.scoring == "standard"


def test_crowds_lie_below_objects_and_large_objects_below_small_ones(opened):
    expected = np.zeros(SIZE, dtype=np.uint16)
    expected[0:6, 0:14] = 12  # stop sign: COCO's ids have gaps, labels have none
    expected[0:10, 0:10] = 1
    expected[2:4, 2:4] = 17
    labels = opened.images[0].labels()
    assert labels.dtype == np.uint16
    assert_array_equal(labels, expected)


def test_of_equal_areas_the_later_one_is_on_top(tmp_path):
    first = annotation(1, PERSON, box(0, 0, 4, 4), area=16.0)
    write(tmp_path, [first, annotation(1, DOG, box(2, 2, 6, 6), area=16.0)])
    labels = open_coco2017_val(tmp_path).images[0].labels()
    assert labels[3, 3] == 17
    assert labels[1, 1] == 1


def test_instances_are_as_annotated(opened):
    dog, person, crowd = opened.images[0].instances()
    assert [dog.category, person.category, crowd.category] == [17, 1, 12]
    assert [dog.is_crowd, person.is_crowd, crowd.is_crowd] == [False, False, True]
    assert [dog.area, person.area, crowd.area] == [4.0, 100.0, 1.0]
    assert isinstance(crowd.rle["counts"], str)
    assert_array_equal(coco_mask.decode(crowd.rle).astype(bool), crowd_mask())
    expected = np.zeros(IMAGES["b.jpg"], dtype=np.uint8)
    expected[1:3, 1:5] = expected[5:7, 5:7] = 1
    (toothbrush,) = opened.images[1].instances()
    assert toothbrush.category == 80
    assert_array_equal(coco_mask.decode(toothbrush.rle), expected)


def test_an_image_without_annotations_is_background(opened):
    assert_array_equal(opened.images[2].labels(), np.zeros((5, 7)))
    assert opened.images[2].instances() == []


def test_compressed_run_lengths_and_a_missing_area(tmp_path):
    encoded = coco_mask.encode(np.asfortranarray(crowd_mask().astype(np.uint8)))
    rle = {"size": list(SIZE), "counts": encoded["counts"].decode()}
    compressed = annotation(1, DOG, rle)
    del compressed["area"]
    write(tmp_path, [compressed])
    (instance,) = open_coco2017_val(tmp_path).images[0].instances()
    assert instance.rle == rle
    assert instance.area == 6 * 14


def test_polygons_without_area_are_dropped(tmp_path):
    line = [[1.0, 1.0, 5.0, 5.0]]  # pycocotools would fill a box
    write(tmp_path, [annotation(1, PERSON, line + box(0, 0, 1, 1))])
    opened = open_coco2017_val(tmp_path)
    assert [int(coco_mask.area(each.rle)) for each in opened.images[0].instances()] == [1]
    assert opened.images[0].labels().sum() == 1
    assert opened.notes[0].startswith("1 outlines in instances_val2017.json have fewer")


def test_images_are_read_only_on_demand(tmp_path):
    write(tmp_path)
    for name in IMAGES:
        (tmp_path / "val2017" / name).write_bytes(b"no image")
    image = open_coco2017_val(tmp_path).images[0]
    assert image.labels().shape == SIZE
    with pytest.raises(CorpusError, match=r"a\.jpg can't be used \(not_an_image"):
        image.read()


def test_read_gives_rgb(opened, tmp_path):
    pixels = opened.images[0].read()
    assert pixels.dtype == np.uint8
    assert_array_equal(pixels, np.asarray(Image.open(tmp_path / "val2017/a.jpg")))


def test_an_image_of_another_size_is_named_with_both_sizes(opened, tmp_path):
    write_image(tmp_path / "val2017/a.jpg", (12, 20))
    with pytest.raises(CorpusError, match=r"a\.jpg has 12 x 20 pixels .* annotations 12 x 16"):
        opened.images[0].read()


@pytest.mark.parametrize("stored", [SIZE, (SIZE[1], SIZE[0])])
def test_a_turned_image_is_read_in_the_frame_of_its_annotations(opened, tmp_path, stored):
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF: turn by 90 degrees
    write_image(tmp_path / "val2017/a.jpg", stored, exif=exif)
    raw = np.asarray(Image.open(tmp_path / "val2017/a.jpg"))
    expected = raw if stored == SIZE else np.rot90(raw, -1)
    assert_array_equal(opened.images[0].read(), expected)


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_where_both_frames_fit_the_stored_one_is_the_annotations(opened, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    write_image(tmp_path / "val2017/a.jpg", SIZE, exif=exif)
    stored = np.asarray(Image.open(tmp_path / "val2017/a.jpg"))
    turned = {2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1]}[orientation]
    image = opened.images[0]
    assert_array_equal(image.read(), stored)
    assert_array_equal(image.read(upright=True), turned)
    assert image.read_in_frame().frame_chosen
    assert image.read_in_frame(upright=True).frame_chosen


def test_an_image_that_is_not_turned_leaves_no_choice(opened, tmp_path):
    assert not opened.images[0].read_in_frame().frame_chosen
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(tmp_path / "val2017/a.jpg", SIZE, exif=exif)
    assert not opened.images[0].read_in_frame().frame_chosen, "only one frame has the size"


def test_it_can_be_sent_to_worker_processes(opened):
    again = pickle.loads(pickle.dumps(opened))
    assert again.digest() == opened.digest()
    assert_array_equal(again.images[0].labels(), opened.images[0].labels())


def test_the_digest_is_of_the_content_and_not_of_the_place(opened, tmp_path):
    other = tmp_path / "elsewhere"
    document = write(other)
    assert open_coco2017_val(other).digest() == opened.digest()
    for change in (
        lambda: document["annotations"][0].update(area=5.0),
        lambda: document["annotations"][0].update(iscrowd=1),
        lambda: document["annotations"][0].update(category_id=PERSON),
        lambda: document["annotations"][0].update(segmentation=box(2, 2, 4, 5)),
        lambda: document["images"][2].update(height=6),
        document["images"].pop,
    ):
        before = open_coco2017_val(other).digest()
        change()
        rewrite(other, document)
        assert open_coco2017_val(other).digest() != before


def image_missing(document: dict[str, Any]) -> None:
    document["images"].append({"id": 9, "file_name": "gone.jpg", "height": 3, "width": 3})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (image_missing, r"1 of 4 images are not in .*val2017 \(first: gone\.jpg\)"),
        (lambda d: d["images"][1].update(id=1), r"1 of 3 images have the `id` of another"),
        (lambda d: d["images"][0].pop("height"), r"1 of 3 images lack an `id`"),
        (lambda d: d["annotations"][0].update(category_id=12), r"1 of 4 .* no category's"),
        (lambda d: d["annotations"][0].update(image_id=77), r"1 of 4 .*of image 77: "),
        (lambda d: d["annotations"][0].update(segmentation=[]), r"1 of 4 .* no polygons"),
        (lambda d: d["annotations"][0].update(image_id="x"), r"1 of 4 .*lacks a number"),
        (lambda d: d["categories"][0].update(name="tank"), r"1 of 4 categories are none of COCO's"),
        (lambda d: d.pop("annotations"), "no list `annotations`"),
        (lambda d: d["images"].clear() or d["annotations"].clear(), "lists no image"),
    ],
)  # fmt: skip
def test_mismatches_are_named_and_counted(tmp_path, damage, message):
    document = write(tmp_path)
    damage(document)
    rewrite(tmp_path, document)
    with pytest.raises(CorpusError, match=rf"instances_val2017\.json .*{message}"):
        open_coco2017_val(tmp_path)


@pytest.mark.parametrize("text", ["{", "\xff", '{"images": [NaN]}'])
def test_a_file_that_is_no_json(tmp_path, text):
    write(tmp_path)
    (tmp_path / "annotations/instances_val2017.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CorpusError, match="not valid JSON"):
        open_coco2017_val(tmp_path)


@pytest.mark.parametrize("wrong", [{"size": [16, 12]}, {"counts": [0, 5]}])
def test_run_lengths_of_another_size(tmp_path, wrong):
    write(tmp_path, [annotation(1, DOG, {**runs(crowd_mask()), **wrong})])
    with pytest.raises(CorpusError, match="image 1: its run lengths don't make up 12 x 16"):
        open_coco2017_val(tmp_path).images[0].labels()


def test_own_data_has_the_categories_of_its_file_in_the_order_of_their_ids(tmp_path):
    file = tmp_path / "mine.json"
    annotations = [annotation(1, 7, box(0, 0, 2, 2)), annotation(1, 3, box(2, 2, 4, 4))]
    write_coco(
        file, tmp_path / "images", {"deep/a.png": (6, 6)}, annotations, {7: "kite", 3: "owl"}
    )
    own = open_coco_json(str(file))
    assert own.name == "mine"
    assert own.categories == ("owl", "kite")
    assert own.category_ids == (3, 7)
    assert [own.own_id(label) for label in (1, 2)] == [3, 7]
    expected = np.zeros((6, 6))
    expected[0:2, 0:2] = 2
    expected[2:4, 2:4] = 1
    assert_array_equal(own.images[0].labels(), expected)
    assert own.images[0].read().shape == (6, 6, 3)


def test_own_ids_that_are_the_labels_are_not_repeated(tmp_path):
    file = tmp_path / "mine.json"
    write_coco(file, tmp_path, {"a.png": (6, 6)}, [], {2: "kite", 1: "owl"})
    own = open_coco_json(str(file))
    assert own.category_ids == ()
    assert [own.own_id(label) for label in (1, 2)] == [1, 2]


def test_the_digest_knows_own_ids(tmp_path):
    digests = set()
    for ids in ((1, 2), (1, 3)):
        names = dict(zip(ids, ("owl", "kite"), strict=True))
        write_coco(tmp_path / "mine.json", tmp_path, {"a.png": (6, 6)}, [], names)
        digests.add(open_coco_json(str(tmp_path / "mine.json")).digest())
    assert len(digests) == 2


def test_own_data_with_images_elsewhere(tmp_path):
    file = tmp_path / "mine/mine.json"
    write_coco(file, tmp_path / "elsewhere", {"a.png": (6, 6)}, [], {1: "owl"})
    with pytest.raises(CorpusError, match=r"first is a\.png\) are in none of"):
        open_coco_json(str(file))
    assert open_coco_json(str(file), str(tmp_path / "elsewhere")).images[0].read().shape == (
        6,
        6,
        3,
    )


def test_own_data_with_the_same_category_twice(tmp_path):
    write_coco(tmp_path / "a.json", tmp_path, {"a.png": (6, 6)}, [], {1: "owl", 2: "owl"})
    with pytest.raises(CorpusError, match="2 categories of which some"):
        open_coco_json(str(tmp_path / "a.json"))


def test_a_category_called_background_is_the_background(tmp_path):
    annotations = [
        annotation(1, 7, box(0, 0, 6, 6), area=36.0),
        annotation(1, 1, box(1, 1, 3, 3), area=4.0),  # a hole
        annotation(1, 9, box(4, 4, 6, 6), area=4.0),
    ]
    names = {1: "Background", 7: "owl", 9: "kite"}
    write_coco(tmp_path / "mine.json", tmp_path, {"a.png": (6, 6)}, annotations, names)
    own = open_coco_json(str(tmp_path / "mine.json"))
    assert own.categories == ("owl", "kite")
    assert own.category_ids == (7, 9)
    expected = np.ones((6, 6))
    expected[1:3, 1:3] = 0
    expected[4:6, 4:6] = 2
    assert_array_equal(own.images[0].labels(), expected)
    assert [each.category for each in own.images[0].instances()] == [1, 2]
    assert own.notes == (
        "The category 'Background' of mine.json is the background, label 0: its annotations (1) "
        "are no objects.",
    )


def test_background_alone_is_no_category(tmp_path):
    write_coco(tmp_path / "a.json", tmp_path, {"a.png": (6, 6)}, [], {0: "background"})
    with pytest.raises(CorpusError, match="lists no category"):
        open_coco_json(str(tmp_path / "a.json"))


def open_own(folder: Path, *annotations: dict[str, Any], skip_bad: bool = False) -> EvaluationSet:
    file = folder / "mine.json"
    write_coco(file, folder, {"a.png": SIZE}, list(annotations), {1: "owl"})
    return open_coco_json(str(file), skip_bad=skip_bad)


def encoded_crowd() -> str:
    return coco_mask.encode(np.asfortranarray(crowd_mask().astype(np.uint8)))["counts"].decode()


GOOD = annotation(1, 1, box(0, 0, 4, 4), area=16.0)
FAULTS = [
    ({"segmentation": [[1.0, 1.0, 5.0, 5.0]]}, "fewer than three corners"),
    ({"segmentation": [[1.0, 1.0, 5.0, 5.0, 3.0]]}, "fewer than three corners"),
    ({"segmentation": []}, "no polygons or run lengths"),
    ({"iscrowd": "0"}, "`iscrowd` is '0'"),
    ({"iscrowd": 2}, "`iscrowd` is 2"),
    ({"segmentation": {"size": list(SIZE), "counts": encoded_crowd()[:-2]}}, "don't make up"),
    ({"segmentation": {"size": list(SIZE), "counts": "\u00e9\x00~"}}, "don't make up"),
    ({"segmentation": {"size": list(SIZE), "counts": [0, 5]}}, "don't make up"),
    ({"segmentation": {"size": list(SIZE), "counts": [-8, 200]}}, "don't make up"),
    ({"segmentation": {"size": list(SIZE), "counts": ["x"]}}, "don't make up"),
    ({"segmentation": {"size": [16, 12], "counts": [0, 192]}}, "don't make up 12 x 16"),
    ({"segmentation": box(20, 30, 40, 50), "area": 400.0}, "no pixel .* area of 400"),
    ({"segmentation": [[0.1, 0.1, 0.4, 0.1, 0.4, 0.4]], "area": 25.0}, "no pixel .* area of 25"),
    ({"segmentation": {"size": list(SIZE), "counts": [192]}, "area": 25.0}, "no pixel .* area"),
    ({"image_id": 77}, "of an image that the file does not list"),
    ({"category_id": 12}, "no category's"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_a_faulty_annotation_is_refused_and_can_be_skipped(tmp_path, fault, message):
    with pytest.raises(CorpusError, match=rf"1 of 2 .*{message}.*skip_bad"):
        open_own(tmp_path, GOOD, GOOD | fault)
    whole, rest = open_own(tmp_path, GOOD), open_own(tmp_path, GOOD, GOOD | fault, skip_bad=True)
    assert len(rest.images[0].instances()) == 1
    assert_array_equal(rest.images[0].labels(), whole.images[0].labels())
    assert len(rest.skipped) == 1
    assert rest.skipped[0].startswith("annotation 2 of image ")
    assert rest.notes == (f"1 faulty annotation of mine.json is skipped: {rest.skipped[0]}.",)
    assert rest.digest() != whole.digest()


def test_the_first_five_faults_are_named(tmp_path):
    bad = GOOD | {"iscrowd": "0"}
    with pytest.raises(CorpusError, match=r"annotation 1 of image 1.*annotation 5.* and 2 more"):
        open_own(tmp_path, *[bad] * 7)
    rest = open_own(tmp_path, *[bad] * 7, GOOD, skip_bad=True)
    assert len(rest.skipped) == 7
    assert rest.notes[0].endswith("and 2 more.")


def test_skipping_where_nothing_is_faulty_changes_nothing(tmp_path):
    assert open_own(tmp_path, GOOD).digest() == open_own(tmp_path, GOOD, skip_bad=True).digest()


@pytest.mark.parametrize("area", [0.0, 0.4, None])
def test_specks_that_cover_no_pixel_are_no_fault(tmp_path, area):
    speck = annotation(1, 1, [[2.0, 2.0, 3.0, 2.0, 3.0, 2.0, 2.0, 2.0]], area=area)
    [found] = open_own(tmp_path, speck).images[0].instances()
    assert coco_mask.area(found.rle) == 0
