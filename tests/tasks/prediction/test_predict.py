"""Prediction on a list of images: consistent files, bad images, names, folders."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from storage.corpora.selection import Selection
from storage.errors.exceptions import ConfigError, CorpusError
from storage.vocabularies.vocabulary import Category, load_vocabulary
from tasks.categories.category_texts import embed_categories
from tasks.prediction.image_ids import ids_of_corpus, ids_of_file
from tasks.prediction.predict import (
    Summary,
    find_images,
    own_ids,
    predict,
    prepare_folder,
    unused_ids,
)
from tasks.prediction.segmenter import ZutisSegmenter
from tests.support.files.coloured_images import coloured_image, write_corpus
from tests.support.networks.colour_network import ColourNetwork
from tests.support.networks.fakes import FakeClip
from tests.support.processes.nursery import run_zutis

NAMES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def segmenter() -> ZutisSegmenter:
    texts = embed_categories(FakeClip(), [Category(name=name) for name in NAMES])
    return ZutisSegmenter(ColourNetwork(), texts, NAMES, label="colours")


@pytest.fixture
def folder(tmp_path) -> Path:
    write_corpus(tmp_path / "images", ["red", "blue"], each=2)
    return tmp_path / "images"


def run(segmenter: ZutisSegmenter, specs: list[Path | str], out: Path, **settings: Any) -> Summary:
    listing = find_images([str(spec) for spec in specs], without=out)
    prepare_folder(out, overwrite=False)
    return predict(listing, segmenter, out, **settings)


def read(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "predictions.json").read_text())
    return content


def test_all_files_tell_the_same(segmenter, folder, tmp_path):
    out = tmp_path / "out"
    summary = run(segmenter, [folder], out)
    assert summary == Summary(images=4, instances=4, rejects={})
    coco = COCO(out / "predictions.json")
    assert [coco.cats[i]["name"] for i in (1, 2, 3)] == list(NAMES)
    for image in coco.imgs.values():
        (annotation,) = coco.imgToAnns[image["id"]]
        name = NAMES[annotation["category_id"] - 1]
        assert image["file_name"].startswith(name)
        assert annotation["segmentation"]["size"] == [image["height"], image["width"]]
        mask = coco_mask.decode(annotation["segmentation"])
        assert annotation["area"] == mask.sum()
        with Image.open(out / image["label_map"]) as labels:
            assert labels.size == (image["width"], image["height"])
            overlap = (np.asarray(labels) == annotation["category_id"])[mask > 0].mean()
        assert overlap > 0.8
        assert (out / image["overlay"]).is_file()


def test_results_can_be_scored_and_keep_the_masks_areas(segmenter, folder, tmp_path):
    out = tmp_path / "out"
    run(segmenter, [folder], out)
    results = json.loads((out / "results.json").read_text())
    loaded = COCO(out / "predictions.json").loadRes(results)
    areas = [annotation["area"] for annotation in read(out)["annotations"]]
    assert [loaded.anns[i + 1]["area"] for i in range(4)] == areas


@pytest.mark.parametrize("by", ["corpus", "file"])
def test_results_with_the_ids_of_an_annotation_file_are_scored_against_it(
    segmenter, folder, tmp_path, by
):
    """Whose ids have gaps, and an order of their own."""
    run(segmenter, [folder], tmp_path / "first")
    first = read(tmp_path / "first")
    own = dict(zip([image["id"] for image in first["images"]], [907, 12, 500, 3], strict=True))
    truth = {
        "images": [image | {"id": own[image["id"]]} for image in first["images"]][::-1],
        "annotations": [row | {"image_id": own[row["image_id"]]} for row in first["annotations"]],
        "categories": first["categories"],
    }
    path = folder / "truth.json"
    path.write_text(json.dumps(truth))
    specs = [path] if by == "corpus" else [folder]
    ids = ids_of_corpus([str(path)]) if by == "corpus" else ids_of_file(str(path))
    run(segmenter, specs, tmp_path / "out", image_ids=ids)
    assert [image["id"] for image in read(tmp_path / "out")["images"]] == [907, 12, 500, 3]
    coco = COCO(path)
    scores = COCOeval(coco, coco.loadRes(str(tmp_path / "out/results.json")), "segm")
    scores.evaluate()
    scores.accumulate()
    scores.summarize()
    assert scores.stats[0] == 1.0


def test_the_same_images_give_the_same_files_for_any_batch_and_order(segmenter, folder, tmp_path):
    run(segmenter, [folder], tmp_path / "one")
    run(segmenter, sorted(folder.iterdir(), reverse=True), tmp_path / "two", batch=3)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 10
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_shipped_coco_names_have_cocos_numbers():
    ids = own_ids(load_vocabulary("coco").categories)
    assert len(ids) == 80
    assert (ids[0], ids[11], ids[79]) == (1, 13, 90)
    assert own_ids(None) == own_ids(["cat"]) == ()
    assert unused_ids(load_vocabulary("coco").categories) == unused_ids(["cat"]) == ""


@pytest.mark.parametrize(
    ("ids", "why"),
    [((7, None), "1 of 2 have none"), ((7, 7), "some are equal"), (("n01", 7), "some are text")],
)
def test_unusable_category_ids_are_reported(ids, why):
    names = [Category(name=name, external_id=own) for name, own in zip("ab", ids, strict=True)]
    assert own_ids(names) == ()
    assert unused_ids(names) == (
        f"The vocabulary's ids can't be used as category ids ({why}): category_id is 1 to 2, in "
        "the vocabulary's order."
    )


def test_bad_images_are_counted_and_the_others_segmented(segmenter, folder, tmp_path):
    (folder / "empty.jpg").touch()
    (folder / "page.jpg").write_text("<html>")
    whole = (folder / "red-000.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    summary = run(segmenter, [folder], tmp_path / "out", batch=8)
    assert summary.images == 4
    assert summary.rejects == {"empty_file": 1, "not_an_image": 1, "truncated": 1}
    rejected = {item["file_name"]: item["reason"] for item in read(tmp_path / "out")["rejected"]}
    assert rejected["page.jpg"] == "not_an_image"


def test_nothing_usable_is_an_error_that_leaves_no_json(segmenter, tmp_path):
    (tmp_path / "page.jpg").write_text("<html>")
    out = tmp_path / "out"
    with pytest.raises(CorpusError, match=r"None of the images can be used \(1 not_an_image\)"):
        run(segmenter, [tmp_path / "page.jpg"], out)
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_images_of_one_name_do_not_overwrite_each_other(segmenter, folder, tmp_path):
    for name in ("a", "b"):
        (folder / name).mkdir()
        shutil.copy(folder / "red-000.jpg", folder / name / "red-000.jpg")
    coloured_image("green", 0).save(folder / "red-000.png")
    coloured_image("green", 0).save(folder / "RED-000.webp")
    run(segmenter, [folder], tmp_path / "out")
    images = read(tmp_path / "out")["images"]
    maps = [image["label_map"].casefold() for image in images]
    assert len(set(maps)) == len(maps) == 8
    assert {"labels/red-000-2.png", "labels/red-000-5.png"} <= set(maps)
    assert "a/red-000.jpg" in {image["file_name"] for image in images}


def test_formats_and_sizes(segmenter, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    coloured_image("red", 0, (40, 90)).convert("CMYK").save(folder / "cmyk.jpg")
    coloured_image("red", 0, (33, 21)).save(folder / "small.gif")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    coloured_image("red", 0, (40, 60)).save(folder / "turned.jpg", exif=exif)
    run(segmenter, [folder], tmp_path / "out")
    sizes = {
        image["file_name"]: (image["height"], image["width"])
        for image in read(tmp_path / "out")["images"]
    }
    assert sizes == {"cmyk.jpg": (40, 90), "small.gif": (33, 21), "turned.jpg": (60, 40)}


def test_excluded_files_are_counted_in_tars_too(segmenter, folder, tmp_path):
    with tarfile.open(folder / "some.tar", "w") as tar:
        for name in ("red/1.jpg", "blue/2.jpg"):
            tar.add(folder / "red-000.jpg", name)
        tar.add(__file__, "red/1.txt")
    (folder / "notes.txt").touch()
    selection = Selection.of([], ["blue*"])
    listing = find_images([str(folder)], selection=selection)
    prepare_folder(tmp_path / "out", overwrite=False)
    summary = predict(listing, segmenter, tmp_path / "out", selection=selection)
    assert (summary.images, summary.rejects) == (3, {})
    assert summary.ignored == {"excluded": 3, "txt": 2}


def test_tars_are_read_too(segmenter, folder, tmp_path):
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        tar.add(folder / "red-000.jpg", "deep/red.jpg")
    run(segmenter, [tmp_path / "some.tar"], tmp_path / "out")
    (image,) = read(tmp_path / "out")["images"]
    assert image["file_name"] == "some.tar/deep/red.jpg"
    assert image["label_map"] == "labels/red.png"


class TestFindingImages:
    def test_patterns_files_and_folders_each_image_once(self, folder):
        specs = [f"{folder}/red-*.jpg", str(folder), str(folder / "red-000.jpg")]
        assert find_images(specs).entries.num_rows == 4
        assert find_images(specs[:1]).entries.num_rows == 2

    def test_a_name_with_brackets_is_taken_as_it_is(self, folder):
        shutil.copy(folder / "red-000.jpg", folder / "a[1].jpg")
        assert find_images([str(folder / "a[1].jpg")]).entries.num_rows == 1

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("nowhere.jpg", "nowhere.jpg does not exist"),
            ("notes.md", "A corpus is a folder, an image"),
            ("list.txt", "There is no image in .*list.txt"),
            ("*.tiff", "Nothing matches"),
            ("empty", "There is no image in"),
        ],
    )
    def test_nothing_is_an_error(self, name, message, folder):
        (folder / "empty").mkdir()
        (folder / "notes.md").touch()
        (folder / "list.txt").touch()
        with pytest.raises(CorpusError, match=message):
            find_images([str(folder / name)])

    def test_all_kinds_of_corpora_are_read(self, folder, tmp_path):
        names = ["red-000.jpg", "blue-001.jpg"]
        (folder / "list.txt").write_text("\n".join([*names, "gone.jpg"]))
        (folder / "list.csv").write_text("\n".join(["photo", *names]))
        document = {"images": [{"id": 7, "file_name": name} for name in names]}
        (folder / "coco.json").write_text(json.dumps(document))
        for name, column in [("list.txt", ""), ("list.csv", "photo"), ("coco.json", "")]:
            found = find_images([str(folder / name)], uri_column=column)
            assert [uri.rpartition("/")[2] for uri in found.entries["uri"].to_pylist()] == [
                "blue-001.jpg", "red-000.jpg",
            ]  # fmt: skip
            assert found.rejects["reason"].to_pylist() == ["missing"] * (name == "list.txt")

    def test_images_of_another_format_are_other_files_as_in_builds(self, folder):
        (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
        assert find_images([str(folder)]).ignored == {"heic": 1}
        with pytest.raises(CorpusError, match=r"photo\.heic is an image .*: convert it to JPEG"):
            find_images([str(folder / "photo.heic")])

    def test_patterns_that_leave_nothing_say_so(self, folder):
        with pytest.raises(CorpusError, match=r"no image in .*\(but 4 excluded\)"):
            find_images([str(folder)], selection=Selection.of(["*.png"], []))

    def test_earlier_predictions_are_no_images(self, segmenter, folder):
        run(segmenter, [folder], folder / "out")
        assert find_images([str(folder)], without=folder / "out").entries.num_rows == 4


class TestFolder:
    def test_a_folder_that_is_not_empty_is_refused(self, tmp_path):
        (tmp_path / "mine.txt").touch()
        with pytest.raises(ConfigError, match=r"not empty.*--overwrite"):
            prepare_folder(tmp_path, overwrite=False)
        with pytest.raises(ConfigError, match="is a file"):
            prepare_folder(tmp_path / "mine.txt", overwrite=True)

    def test_overwriting_removes_predictions_and_nothing_else(self, segmenter, folder, tmp_path):
        out = tmp_path / "out"
        run(segmenter, [folder], out)
        (out / "mine.txt").touch()
        prepare_folder(out, overwrite=True)
        assert [path.name for path in out.rglob("*") if path.is_file()] == ["mine.txt"]


def test_a_batch_of_nothing_is_refused(segmenter, folder, tmp_path):
    with pytest.raises(ConfigError, match="batch is 0"):
        run(segmenter, [folder], tmp_path / "out", batch=0)


def test_odd_images_are_segmented_and_counted(segmenter, folder, tmp_path, capfd):
    cut = b"Exif\0\0II*\0\x08\0\0\0\xff\xff"
    coloured_image("red", 7, (64, 48)).save(folder / "odd.jpg", exif=cut)
    summary = run(segmenter, [folder], tmp_path / "out")
    assert summary.images == 5
    assert summary.warnings == {"damaged_metadata": 1}
    assert "EXIF" not in capfd.readouterr().err


_PREDICT_A_LARGE_IMAGE = """
import sys
from pathlib import Path
import torch
from tests.support.networks.fakes import FakeClip
from tests.support.networks.colour_network import ColourNetwork
from storage.vocabularies.vocabulary import Category
from tasks.categories.category_texts import embed_categories
from tasks.prediction.predict import find_images, predict, prepare_folder
from tasks.prediction.segmenter import ZutisSegmenter

class HundredQueries(ColourNetwork):
    def forward(self, images):
        output = super().forward(images)
        logits = output.mask_logits[:, :, [0]].expand(-1, -1, 100, -1, -1)
        return type(output)(mask_logits=logits, patch_tokens=output.patch_tokens)

def status(name):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024

def run(image, out):
    prepare_folder(Path(out), overwrite=False)
    predict(find_images([image]), segmenter, Path(out))

names = ("red", "green", "blue")
texts = embed_categories(FakeClip(), [Category(name=name) for name in names])
segmenter = ZutisSegmenter(HundredQueries(), texts, names)
small, large, out = sys.argv[1:]
run(small, out + "-small")  # compiles, imports
before = status("VmRSS")
run(large, out)
print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_large_image_takes_memory_for_itself_and_not_for_all_its_proposals(tmp_path):
    coloured_image("red", 0, (96, 64)).save(tmp_path / "small.jpg")
    size = (4000, 3000)
    coloured_image("red", 0, (96, 64)).resize(size).save(tmp_path / "large.jpg")
    paths = [str(tmp_path / name) for name in ("small.jpg", "large.jpg", "out")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = run_zutis(paths, tmp_path, environment, timeout=200, code=_PREDICT_A_LARGE_IMAGE)
    assert ended.returncode == 0, ended.stderr
    # The image is 4 bytes a pixel; a bit of 100 proposals would be another 12, a byte 100.
    assert int(ended.stdout) < 25 * size[0] * size[1]
    assert len(read(tmp_path / "out")["annotations"]) == 1
