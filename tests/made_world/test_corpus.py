"""Folders of synthetic images: ground truth, near-duplicates, broken files, repeated bytes."""

from __future__ import annotations

import json

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
from made_world.scenes.images import scene_image
from made_world.things.kinds import KINDS
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
    for place in ("one", "two"):
        write_corpus(tmp_path / place, 5, 40)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    write_scenes(tmp_path / "scenes", 4, 20)
    assert content(tmp_path / "scenes") == content(scenes)


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
