"""Folders of synthetic images: ground truth, near-duplicates, broken files, repeated bytes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from made_world.corpus import (
    read_corpus_ground_truth,
    read_ground_truth,
    write_corpus,
    write_scenes,
)
from made_world.scenes.hard import hard_image
from made_world.scenes.images import scene_image
from made_world.scenes.near_duplicates import WAYS
from made_world.things.kinds import CLUTTER, KINDS, LOOK_ALIKES
from storage.evaluation_sets.opening import open_evaluation_set

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, 3, 300)
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 4, 20)
    return folder


@pytest.fixture(scope="module")
def hard_corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hard")
    write_corpus(folder, 3, 300, world="hard")
    return folder


def content(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def opens(path):
    try:
        with Image.open(path) as image:
            image.load()
    except OSError:
        return False
    return True


def test_every_file_is_good_or_broken_as_recorded(corpus):
    truth = read_corpus_ground_truth(corpus)
    files = {path.name: path for path in (corpus / "pictures").iterdir()}
    assert len(files) == 300
    assert files.keys() == truth.objects.keys() | truth.broken.keys()
    assert sorted(truth.broken.values()) == ["empty", "truncated", "web page"]
    for name, path in files.items():
        assert opens(path) == (name in truth.objects), name


def test_masks_fit_their_images(corpus):
    truth = read_ground_truth(corpus)
    assert sum(len(objects) for objects in truth.values()) > 250
    for name, objects in truth.items():
        with Image.open(corpus / "pictures" / name) as image:
            assert image.format == "JPEG"
            size = image.height, image.width
        for kind, mask in objects:
            assert kind in KINDS
            assert mask.shape == size
            assert mask.dtype == np.bool_
            assert mask.any()


def test_near_duplicates_show_almost_the_same(corpus):
    truth = read_corpus_ground_truth(corpus)
    assert len(truth.near_duplicates) == 6
    for name, origin in truth.near_duplicates.items():
        shown = [kind for kind, _ in truth.objects[name]]
        assert shown == [kind for kind, _ in truth.objects[origin]]
        pair = []
        for each in (name, origin):
            path = corpus / "pictures" / each
            with Image.open(path) as image:
                pair.append(np.asarray(image.convert("L").resize((32, 32)), dtype=float))
        assert (corpus / "pictures" / name).read_bytes() != (
            corpus / "pictures" / origin
        ).read_bytes()
        assert np.corrcoef(pair[0].ravel(), pair[1].ravel())[0, 1] > 0.7


def test_file_names_do_not_reveal_the_content(corpus):
    truth = read_corpus_ground_truth(corpus)
    counts = [len(truth.objects[name]) for name in sorted(truth.objects)]
    half = len(counts) // 2
    assert 0.7 < sum(counts[:half]) / sum(counts[half:]) < 1.4
    assert abs(np.mean([int(name[:6]) for name in truth.near_duplicates]) - 150) < 120


def test_a_small_corpus_has_no_broken_files(tmp_path):
    write_corpus(tmp_path, 3, 12, ("star", "cup"))
    truth = read_corpus_ground_truth(tmp_path)
    assert not truth.broken
    assert len(truth.objects) == 12
    assert {kind for objects in truth.objects.values() for kind, _ in objects} == {"star", "cup"}


def test_writing_again_gives_the_same_bytes(tmp_path, scenes):
    for world in ("easy", "hard"):
        for place in ("one", "two"):
            write_corpus(tmp_path / world / place, 5, 24, world=world)
        assert content(tmp_path / world / "one") == content(tmp_path / world / "two")
    write_scenes(tmp_path / "scenes", 4, 20)
    assert content(tmp_path / "scenes") == content(scenes)


def test_the_easy_world_stays_what_it_was(tmp_path):
    """The files that hold no picture to the byte, pictures by their means: these depend a little on
    the library that encodes them."""
    write_corpus(tmp_path / "corpus", 5, 40)
    write_scenes(tmp_path / "scenes", 4, 12)
    truth, annotations = tmp_path / "corpus/truth.json", tmp_path / "scenes/annotations.json"
    assert hashlib.sha256(truth.read_bytes()).hexdigest() == (
        "b399dcab04577888cb96a7a1e595fae693200eea3e5cd8f2aeea6dbd3c55c21a"
    )
    assert hashlib.sha256(annotations.read_bytes()).hexdigest() == (
        "3e4e2721f3f29fa82025d78c8debd33dc7b1a3c34bda9e395b9856b059bc731e"
    )
    for folder, means in (
        ("corpus/pictures", [59.363, 80.715, 84.579, 68.135, 105.525, 119.83]),
        ("scenes/images", [91.404, 71.761, 173.727, 126.599, 177.515, 170.047]),
    ):
        for path, mean in zip(sorted((tmp_path / folder).iterdir()), means, strict=False):
            with Image.open(path) as image:
                assert np.asarray(image).mean() == pytest.approx(mean, abs=0.02), path.name


def test_a_hard_corpus_says_what_each_object_is(hard_corpus):
    truth = read_corpus_ground_truth(hard_corpus)
    sorts = Counter(one.sort for shown in truth.things.values() for one in shown)
    assert sorts.keys() == {"kind", "look-alike", "clutter"}
    for name, shown in truth.things.items():
        with Image.open(hard_corpus / "pictures" / name) as image:
            size = image.height, image.width
        for one in shown:
            assert one.mask.shape == size
            assert one.mask.any()
            assert 0 < one.visible <= 1
            assert one.size > 0
            in_vocabulary = one.kind in KINDS
            assert in_vocabulary == (one.sort == "kind")
            assert (one.sort == "look-alike") == (one.kind in LOOK_ALIKES)
        named = [(one.kind, one.mask) for one in shown if one.kind not in CLUTTER]
        assert len(truth.objects[name]) == len(named)
    document = json.loads((hard_corpus / "truth.json").read_text(encoding="utf-8"))
    assert document["world"] == "hard"
    first = next(listed[0] for listed in document["pictures"].values() if listed)
    assert first.keys() == {"kind", "word", "sort", "visible", "size", "mask"}


def test_near_duplicates_of_a_hard_corpus_are_recorded_with_their_way(hard_corpus):
    truth = read_corpus_ground_truth(hard_corpus)
    assert len(truth.near_duplicates) == 30
    assert truth.ways.keys() == truth.near_duplicates.keys()
    assert set(truth.ways.values()) == set(WAYS)
    assert len(set(truth.near_duplicates.values())) == 20
    assert not truth.near_duplicates.keys() & set(truth.near_duplicates.values())
    for name, way in truth.ways.items():
        pair = []
        for each in (truth.near_duplicates[name], name):
            with Image.open(hard_corpus / "pictures" / each) as image:
                pair.append(np.asarray(image))
        origin, copy = pair
        if way == "flip":
            back = np.abs(copy[:, ::-1].astype(int) - origin).mean()
            assert back < min(6, 0.8 * np.abs(copy.astype(int) - origin).mean())
        elif way in ("jpeg", "brightness"):
            assert copy.shape == origin.shape
            assert copy.mean() != origin.mean()
        else:
            assert copy.shape[0] < origin.shape[0]
            assert copy.shape[1] < origin.shape[1]


def test_scenes_of_the_hard_world_annotate_the_kinds_alone(tmp_path):
    write_scenes(tmp_path, 4, 12, world="hard")
    document = json.loads((tmp_path / "annotations.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in document["categories"]] == list(KINDS)
    shown = [one.kind for at in range(12) for one in hard_image(4, at).objects]
    expected = [kind for kind in shown if kind in KINDS]
    names = [KINDS[each["category_id"] - 1] for each in document["annotations"]]
    assert names == expected
    assert len(expected) < len(shown)


def test_scenes_load_in_pycocotools(scenes):
    coco = COCO(scenes / "annotations.json")
    names = [each["name"] for each in coco.loadCats(coco.getCatIds())]
    assert tuple(names) == KINDS
    assert len(coco.getImgIds()) == 20
    for number, image_id in enumerate(sorted(coco.getImgIds())):
        scene = scene_image(4, number)
        annotations = coco.loadAnns(coco.getAnnIds(image_id))
        assert len(annotations) == len(scene.objects)
        for annotation, one in zip(annotations, scene.objects, strict=True):
            assert KINDS[annotation["category_id"] - 1] == one.kind
            assert (coco.annToMask(annotation).astype(bool) == one.mask).all()
            assert annotation["area"] == one.mask.sum()
            left, top, width, height = annotation["bbox"]
            box = one.mask[top : top + height, left : left + width]
            assert box.sum() == one.mask.sum()
            assert box.any(axis=0)[[0, -1]].all()
            assert box.any(axis=1)[[0, -1]].all()
            assert annotation["iscrowd"] == 0


def test_scenes_open_as_an_evaluation_set(scenes):
    opened = open_evaluation_set(f"coco:{scenes / 'annotations.json'}", None)
    assert opened.categories == KINDS
    assert len(opened.images) == 20
    document = json.loads((scenes / "annotations.json").read_text(encoding="utf-8"))
    assert document["categories"][0] == {"id": 1, "name": KINDS[0]}


def test_nothing_to_write_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        write_corpus(tmp_path, 1, 0)
    with pytest.raises(ValueError, match="at least 1"):
        write_scenes(tmp_path, 1, 0)
