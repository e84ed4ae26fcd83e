"""Exports read by the tools that they are for: every mask, every category, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from storage.errors.exceptions import ConfigError
from storage.evaluation_sets.coco import open_coco_json
from storage.images.masks import run_length_pixels
from tasks.exporting.contents import Contents
from tasks.exporting.exported import ExportedImage
from tasks.formats.registry import FORMATS, export
from tasks.formats.yolo_seg import JOINED
from tasks.stage.contract import SilentProgress
from tests.support.files.made_exports import (
    HOSTILE,
    SIZE,
    Mask,
    box,
    contents_of,
    iou,
    made_contents,
    several_contents,
)
from tests.support.files.small_datasets import stored_sample

MADE = pytest.mark.parametrize("made", [made_contents, several_contents])


def exported(contents: Contents, name: str, out: Path, **options: Any) -> Path:
    export(contents, name, out, progress=SilentProgress(), **options)
    return out


def wanted(contents: Contents) -> dict[str, list[tuple[str, Mask]]]:
    """Name and mask of each object, by the stem of its image."""
    return {
        image.stem: [(contents.category(each.label).name, each.pixels()) for each in image.objects]
        for image in contents.read()
    }


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", FORMATS)
@MADE
def test_equal_contents_give_equal_bytes_and_all_images(
    name: str, made: Callable[[Path], Contents], tmp_path: Path
) -> None:
    contents = made(tmp_path / "data")
    first = files(exported(contents, name, tmp_path / "first"))
    assert first == files(exported(contents, name, tmp_path / "second"))
    marker = json.loads(first["zutis-export.json"])
    assert marker["images"] == contents.counts()
    assert sum(path.endswith(".jpg") for path in first) in (0, len(contents.images))


@pytest.mark.parametrize("masks", ["polygons", "rle"])
@MADE
def test_coco_by_pycocotools(masks: str, made: Callable[[Path], Contents], tmp_path: Path) -> None:
    contents = made(tmp_path / "data")
    out = exported(contents, "coco", tmp_path / "out", masks=masks)
    found: dict[str, list[tuple[str, Mask]]] = {}
    numbers: list[int] = []
    for split in contents.splits:
        coco = COCO(str(out / f"annotations/instances_{split}.json"))
        assert [each["name"] for each in coco.loadCats(coco.getCatIds())] == list(HOSTILE)
        for image in coco.loadImgs(coco.getImgIds()):
            path = out / split / image["file_name"]
            assert Image.open(path).size == (image["width"], image["height"])
            annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
            numbers += [each["id"] for each in annotations]
            found[path.stem] = [
                (
                    coco.loadCats(each["category_id"])[0]["name"],
                    coco.annToMask(each).astype(np.bool_),
                )
                for each in annotations
            ]
            for each in annotations:
                assert coco.annToMask(each).sum() == each["area"]
    assert_same(found, wanted(contents))
    assert len(set(numbers)) == len(numbers)


def test_coco_by_our_own_reader(tmp_path: Path) -> None:
    contents = made_contents(tmp_path / "data")
    out = exported(contents, "coco", tmp_path / "out")
    opened = open_coco_json(f"file://{out}/annotations/instances_train.json")
    assert len(opened.images) == contents.counts()["train"]
    assert list(opened.categories) == list(HOSTILE)


def assert_same(
    found: dict[str, list[tuple[str, Mask]]],
    expected: dict[str, list[tuple[str, Mask]]],
    least: float = 1.0,
) -> None:
    assert found.keys() == expected.keys()
    for stem, objects in expected.items():
        assert [name for name, _ in found[stem]] == [name for name, _ in objects]
        for (_, mask), (_, other) in zip(found[stem], objects, strict=True):
            assert iou(mask, other) >= least


@MADE
def test_voc_by_torchvision(made: Callable[[Path], Contents], tmp_path: Path) -> None:
    from torchvision.datasets import VOCDetection, VOCSegmentation

    contents = made(tmp_path / "data")
    out = exported(contents, "voc", tmp_path / "out")
    images = {image.stem: image for image in contents.read()}
    seen = set()
    for split in contents.splits:
        segmentation = VOCSegmentation(str(out), "2012", split)
        detection = VOCDetection(str(out), "2012", split)
        assert len(segmentation) == len(detection) == contents.counts()[split]
        for number in range(len(segmentation)):
            stem = Path(segmentation.masks[number]).stem
            seen.add(stem)
            picture, target = segmentation[number]
            assert picture.size == target.size
            assert np.array_equal(np.asarray(target), images[stem].label_map(255))
            objects = detection[number][1]["annotation"].get("object", [])
            assert_boxes(objects, images[stem], contents)
            path = out / "VOCdevkit/VOC2012/SegmentationObject" / f"{stem}.png"
            assert np.array_equal(np.asarray(Image.open(path)), images[stem].object_map(255))
    assert seen == images.keys()
    assert VOCSegmentation(str(out), "2012", "trainval").images


def assert_boxes(objects: list[Any], image: ExportedImage, contents: Contents) -> None:
    assert len(objects) == len(image.objects)
    for found, each in zip(objects, image.objects, strict=True):
        assert found["name"] == contents.category(each.label).name
        left, top, width, height = each.box
        expected = {"xmin": left + 1, "ymin": top + 1, "xmax": left + width, "ymax": top + height}
        assert {key: int(value) for key, value in found["bndbox"].items()} == expected


def test_voc_refuses_more_categories_than_its_label_maps_hold(tmp_path: Path) -> None:
    names = [f"kind {number}" for number in range(255)]
    contents = contents_of(tmp_path / "data", [stored_sample(0, 1)], names)
    with pytest.raises(ConfigError, match="VOC's label maps hold 254"):
        exported(contents, "voc", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@MADE
def test_png_folders(made: Callable[[Path], Contents], tmp_path: Path) -> None:
    contents = made(tmp_path / "data")
    out = exported(contents, "png", tmp_path / "out")
    for image in contents.read():
        labels = Image.open(out / "labels" / image.split / f"{image.stem}.png")
        assert np.array_equal(np.asarray(labels), image.label_map(255))
        assert (out / "images" / image.split / f"{image.stem}.jpg").read_bytes() == image.jpeg
    categories = json.loads((out / "categories.json").read_text("utf-8"))
    assert [each["name"] for each in categories] == list(HOSTILE)


def test_label_maps_of_many_categories_have_sixteen_bits(tmp_path: Path) -> None:
    names = [f"kind {number}" for number in range(300)]
    mask = box(SIZE, 3, 4, 20, 30)
    contents = contents_of(tmp_path / "data", [stored_sample(0, 299, SIZE, mask)], names)
    out = exported(contents, "png", tmp_path / "out")
    labels = np.asarray(Image.open(out / "labels/train/00000000.png"))
    assert np.array_equal(labels, mask * 299)


def test_what_is_left_out_beside_others_is_ignored_in_label_maps(tmp_path: Path) -> None:
    contents = several_contents(tmp_path / "data")
    third = list(contents.read())[2]
    assert [each.label for each in third.objects] == [2]
    assert (third.label_map(255)[40:60, 40:60] == 255).all()


@MADE
def test_parquet_by_pyarrow(made: Callable[[Path], Contents], tmp_path: Path) -> None:
    contents = made(tmp_path / "data")
    out = exported(contents, "parquet", tmp_path / "out")
    found: dict[str, list[tuple[str, Mask]]] = {}
    for row in pq.read_table(out / "images.parquet").to_pylist():
        assert Image.open(out / row["file_name"]).size == (row["width"], row["height"])
        found[row["image_id"]] = []
    for row in pq.read_table(out / "labels.parquet").to_pylist():
        mask = run_length_pixels({"size": [row["height"], row["width"]], "counts": row["counts"]})
        assert mask.sum() == row["area"]
        found[row["image_id"]].append((row["category"], mask))
    assert_same(found, wanted(contents))


@MADE
def test_yolo_by_opencv(made: Callable[[Path], Contents], tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    contents = made(tmp_path / "data")
    out = exported(contents, "yolo-seg", tmp_path / "out")
    names = yaml.safe_load((out / "data.yaml").read_text("utf-8"))["names"]
    for image in contents.read():
        lines = (out / "labels" / image.split / f"{image.stem}.txt").read_text().splitlines()
        assert len(lines) == len(image.objects)
        for line, each in zip(lines, image.objects, strict=True):
            category, *numbers = line.split()
            assert names[int(category)] == contents.category(each.label).name
            corners = np.array(numbers, float).reshape(-1, 2) * [image.width, image.height]
            drawn = np.zeros((image.height, image.width), np.uint8)
            cv2.fillPoly(drawn, [corners.astype(np.int32)], 1)
            assert_drawn(drawn == 1, each.pixels())


def test_masks_that_yolo_cannot_hold_are_counted(tmp_path: Path) -> None:
    contents = made_contents(tmp_path / "data")
    out = tmp_path / "out"
    told = export(contents, "yolo-seg", out, progress=SilentProgress())
    assert dict(told.losses) == {JOINED: 2}
    assert not export(contents, "coco", tmp_path / "coco", progress=SilentProgress()).losses


def assert_drawn(drawn: Mask, mask: Mask) -> None:
    """The mask, and nothing beside it if it is in one piece."""
    from scipy.ndimage import label

    assert drawn[mask].all()
    if label(mask, np.ones((3, 3)))[1] == 1:
        assert np.array_equal(drawn, mask)


@MADE
def test_yolo_by_ultralytics(
    made: Callable[[Path], Contents], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "settings"))
    pytest.importorskip("ultralytics")
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset, polygon2mask

    contents = made(tmp_path / "data")
    out = exported(contents, "yolo-seg", tmp_path / "out")
    checked = check_det_dataset(str(out / "data.yaml"), autodownload=False)
    assert list(checked["names"].values()) == list(HOSTILE)
    images = {image.stem: image for image in contents.read()}
    seen: set[str] = set()
    for split in contents.splits:
        dataset = YOLODataset(
            img_path=checked[split], data=checked, task="segment", augment=False, imgsz=96
        )
        for entry in dataset.labels:
            image = images[Path(entry["im_file"]).stem]
            seen.add(image.stem)
            size = (image.height, image.width)
            assert len(entry["segments"]) == len(image.objects)
            for kind, segment, each in zip(
                entry["cls"].ravel().tolist(), entry["segments"], image.objects, strict=True
            ):
                assert int(kind) == each.label - 1
                corners = segment * np.array([image.width, image.height])
                assert_drawn(polygon2mask(size, [corners.ravel()]) == 1, each.pixels())
    assert seen == images.keys()


def test_yolo_by_supervision(tmp_path: Path) -> None:
    sv = pytest.importorskip("supervision")
    contents = several_contents(tmp_path / "data")
    out = exported(contents, "yolo-seg", tmp_path / "out")
    dataset = sv.DetectionDataset.from_yolo(
        str(out / "images/train"), str(out / "labels/train"), str(out / "data.yaml"),
        force_masks=True,
    )  # fmt: skip
    assert dataset.classes == list(HOSTILE)
    assert len(dataset) == contents.counts()["train"]


@MADE
def test_hugging_face_by_datasets(
    made: Callable[[Path], Contents], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    contents = made(tmp_path / "data")
    out = exported(contents, "hf", tmp_path / "out")
    cache = str(tmp_path / "cache")
    saved = datasets.load_from_disk(str(out / "saved"))
    files_of = {split: str(out / "data" / f"{split}-*.parquet") for split in contents.splits}
    parquet = datasets.load_dataset("parquet", data_files=files_of, cache_dir=cache)
    folder = datasets.load_dataset(str(out), cache_dir=cache)
    images = {image.image_id: image for image in contents.read()}
    for read in (saved, parquet, folder):
        assert {split: len(rows) for split, rows in read.items()} == contents.counts()
        assert read["train"].features["objects"].feature["category"].names == list(HOSTILE)
        found: dict[str, list[tuple[str, Mask]]] = {}
        for rows in read.values():
            for row in rows:
                image = images[row["image_id"]]
                assert row["image"].size == (image.width, image.height)
                assert np.array_equal(np.asarray(row["label_map"]), image.label_map(255))
                size = [row["height"], row["width"]]
                found[image.stem] = [
                    (
                        HOSTILE[each["category"]],
                        run_length_pixels({"size": size, "counts": each["counts"]}),
                    )
                    for each in row["objects"]
                ]
        assert_same(found, wanted(contents))
    card = (out / "README.md").read_text("utf-8")
    assert card.startswith("---\nconfigs:")


@pytest.mark.parametrize("masks", ["polygons", "rle"])
@MADE
def test_cvat_by_datumaro(masks: str, made: Callable[[Path], Contents], tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    contents = made(tmp_path / "data")
    out = exported(contents, "cvat", tmp_path / "out", masks=masks)
    read = datumaro.Dataset.import_from(str(out), "cvat")
    names = [label.name for label in read.categories()[datumaro.AnnotationType.label]]
    assert names == list(HOSTILE)
    images = {image.stem: image for image in contents.read()}
    seen = set()
    for item in read:
        image = images[item.id]
        seen.add((item.id, item.subset))
        found: dict[Any, tuple[str, Mask]] = {}
        for place, each in enumerate(item.annotations):
            key = each.group if masks == "polygons" else len(item.annotations) - place
            mask = pixels_of(each, image)
            name = names[each.label]
            found[key] = (name, mask | found[key][1] if key in found else mask)
        in_order = [found[key] for key in sorted(found)]
        assert_same({item.id: in_order}, {item.id: wanted(contents)[item.id]})
    assert seen == {(image.stem, image.split) for image in images.values()}


def pixels_of(each: Any, image: ExportedImage) -> Mask:
    """The mask of one of datumaro's polygons or masks."""
    if hasattr(each, "points"):
        size = (image.height, image.width)
        [encoded] = coco_mask.frPyObjects([each.points], *size)
        return np.asarray(coco_mask.decode(encoded), dtype=np.bool_)
    return np.asarray(each.image, dtype=np.bool_)


@MADE
def test_label_studio_by_its_converter(made: Callable[[Path], Contents], tmp_path: Path) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    contents = made(tmp_path / "data")
    out = exported(contents, "label-studio", tmp_path / "out")
    found: dict[str, list[tuple[str, Mask]]] = {}
    for split in contents.splits:
        for task in json.loads((out / f"tasks_{split}.json").read_text("utf-8")):
            place = unquote(task["data"]["image"].partition("?d=")[2])
            assert (out / place).is_file()
            objects = found[Path(place).stem] = []
            for result in task["predictions"][0]["result"]:
                size = (result["original_height"], result["original_width"], 4)
                pixels = brush.decode_rle(result["value"]["rle"]).reshape(size)
                [name] = result["value"]["brushlabels"]
                objects.append((name, pixels[:, :, 3] > 0))
    assert_same(found, wanted(contents))
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface((out / "config.xml").read_text("utf-8"))
    assert len(interface.get_control("tag").labels) == len(HOSTILE)


@pytest.mark.parametrize("masks", ["polygons", "rle"])
@MADE
def test_labelme_by_itself(masks: str, made: Callable[[Path], Contents], tmp_path: Path) -> None:
    shape = pytest.importorskip("labelme.utils.shape")
    images = pytest.importorskip("labelme.utils.image")
    contents = made(tmp_path / "data")
    out = exported(contents, "labelme", tmp_path / "out", masks=masks)
    found: dict[str, list[tuple[str, Mask]]] = {}
    for image in contents.read():
        described = json.loads((out / image.split / f"{image.stem}.json").read_text("utf-8"))
        assert (out / image.split / described["imagePath"]).is_file()
        size = (described["imageHeight"], described["imageWidth"])
        objects: dict[int, tuple[str, Mask]] = {}
        for each in described["shapes"]:
            if masks == "rle":
                each["mask"] = images.img_b64_to_arr(each["mask"]).astype(bool)
                labels, _ = shape.shapes_to_label(size, [each], {each["label"]: 1})
                mask = labels == 1
            else:
                mask = shape.shape_to_mask(size, each["points"], each["shape_type"])
            _, before = objects.get(each["group_id"], ("", np.zeros(size, np.bool_)))
            objects[each["group_id"]] = (each["label"], mask | before)
        found[image.stem] = list(objects.values())
    assert_same(found, wanted(contents))


@pytest.mark.parametrize("masks", ["polygons", "rle"])
@MADE
def test_fiftyone_by_its_importer(
    masks: str, made: Callable[[Path], Contents], tmp_path: Path
) -> None:
    coco = pytest.importorskip("fiftyone.utils.coco")
    contents = made(tmp_path / "data")
    out = exported(contents, "fiftyone", tmp_path / "out", masks=masks)
    found: dict[str, list[tuple[str, Mask]]] = {}
    for split in contents.splits:
        with coco.COCODetectionDatasetImporter(
            str(out / split), label_types=["segmentations"]
        ) as importer:
            for path, metadata, detections in importer:
                size = (metadata.height, metadata.width)
                found[Path(path).stem] = [
                    (each.label, placed(each.mask, each.bounding_box, size))
                    for each in (detections.detections if detections else [])
                ]
    assert_same(found, wanted(contents))


def placed(mask: Mask, box_: list[float], size: tuple[int, int]) -> Mask:
    """A mask of a box, given in shares of the image's sides, in the whole image."""
    whole = np.zeros(size, dtype=np.bool_)
    left, top = round(box_[0] * size[1]), round(box_[1] * size[0])
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return whole


def test_forms_that_a_format_has_not_are_one_sentence(tmp_path: Path) -> None:
    contents = several_contents(tmp_path / "data")
    with pytest.raises(ConfigError, match="yolo-seg has polygons"):
        exported(contents, "yolo-seg", tmp_path / "out", masks="rle")
    with pytest.raises(ConfigError, match="voc can copy or link them"):
        exported(contents, "voc", tmp_path / "out", images="paths")
