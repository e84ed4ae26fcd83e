"""Masks by the names of images: files of other tools, and folders of PNGs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from storage.errors.exceptions import CorpusError
from storage.given_masks.source import AmbiguousNames, GivenMasks, open_given_masks
from storage.images.masks import run_lengths


def square(first: int, last: int, side: int = 12) -> np.ndarray:
    pixels = np.zeros((side, side), np.bool_)
    pixels[first:last, first:last] = True
    return pixels


def write_coco(path: Path, images: dict[str, list[np.ndarray]]) -> str:
    document: dict[str, Any] = {
        "images": [
            {"id": number, "file_name": name, "height": 12, "width": 12}
            for number, name in enumerate(images)
        ],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": 10 * number + place, "image_id": number, "category_id": 1, "iscrowd": 0,
             "segmentation": run_lengths(mask)}
            for number, masks in enumerate(images.values()) for place, mask in enumerate(masks)
        ],
    }  # fmt: skip
    path.write_text(json.dumps(document))
    return str(path)


def pixels_of(given: GivenMasks, uri: str, member: str = "") -> list[np.ndarray]:
    number = given.entry("", uri, member)
    assert number is not None
    return [
        np.asarray(coco_mask.decode({"size": [one.height, one.width], "counts": one.counts})) > 0
        for one in given.masks(number)
    ]


def test_a_coco_file_has_the_masks_of_its_images_the_largest_first(tmp_path: Path) -> None:
    place = write_coco(tmp_path / "m.json", {"a.jpg": [square(0, 3), square(4, 10)], "b.jpg": []})
    given = open_given_masks(place)
    first, second = pixels_of(given, "/data/train/a.jpg")
    np.testing.assert_array_equal(first, square(4, 10))
    np.testing.assert_array_equal(second, square(0, 3))
    assert pixels_of(given, "/data/b.jpg") == []
    assert given.entry("", "/data/c.jpg", "") is None


def test_images_are_found_by_their_sha256(tmp_path: Path) -> None:
    place = write_coco(tmp_path / "m.json", {"f" * 64: [square(0, 3)]})
    assert open_given_masks(place).entry("f" * 64, "/data/a.jpg", "") == 0


def test_a_folder_of_pngs_is_found_by_names_without_extensions(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    Image.fromarray(square(2, 5).astype(np.uint8) * 255).save(tmp_path / "train" / "a.png")
    values = square(0, 2) * 1 + square(3, 9) * 2
    values[11] = 255
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "b.mask.png")
    given = open_given_masks(str(tmp_path))
    assert given.images == 2
    [mask] = pixels_of(given, "/data/train/a.jpg")
    np.testing.assert_array_equal(mask, square(2, 5))
    larger, smaller = pixels_of(given, "/data/x.tar", "b.jpg")
    np.testing.assert_array_equal(larger, square(3, 9))
    np.testing.assert_array_equal(smaller, square(0, 2))
    assert given.entry("", "/data/val/a.jpg", "") is None


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    first = open_given_masks(write_coco(tmp_path / "m.json", {"a.jpg": [square(0, 3)]}))
    second = open_given_masks(write_coco(tmp_path / "m.json", {"a.jpg": [square(0, 4)]}))
    assert first.digest != second.digest
    [mask] = pixels_of(second, "a.jpg")
    assert mask.sum() == 16


def test_a_name_of_several_entries_is_ambiguous(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        Image.fromarray(square(2, 5)).save(tmp_path / folder / "a.png")
    given = open_given_masks(str(tmp_path))
    assert given.entry("", "/data/x/a.jpg", "") == 0
    place = write_coco(tmp_path / "m.json", {"a.jpg": [square(0, 3)], "./a.jpg": [square(0, 4)]})
    with pytest.raises(AmbiguousNames):
        open_given_masks(place).entry("", "/data/a.jpg", "")


def test_what_holds_no_masks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.json").write_text("[1, 2]")
    for place, match in (
        (str(tmp_path / "empty"), "has no masks"),
        (str(tmp_path / "x.json"), "neither COCO's JSON"),
        (write_coco(tmp_path / "m.json", {"a.jpg": []}), "no mask that can be used"),
    ):
        with pytest.raises(CorpusError, match=match):
            open_given_masks(place)
