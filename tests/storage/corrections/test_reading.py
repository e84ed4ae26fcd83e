"""Corrected files: every form of mask comes back pixel by pixel, bad ones are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.corrections.corrected import CorrectedFile
from storage.corrections.label_studio import brush_pixels
from storage.corrections.reading import read_corrected
from storage.errors.exceptions import CorpusError
from storage.images.masks import run_length_pixels, run_lengths

H, W = 6, 9
BOX = np.zeros((H, W), dtype=np.bool_)
BOX[1:4, 2:7] = True


def read(path: Path, content: Any) -> CorrectedFile:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text)
    return read_corrected(str(path))


def pixels(found: CorrectedFile) -> list[tuple[str, np.ndarray]]:
    return [
        (each.category,
         run_length_pixels({"size": [each.mask.height, each.mask.width],
                            "counts": each.mask.counts}))
        for image in found.images for each in image.objects
    ]  # fmt: skip


def assert_box(found: CorrectedFile, times: int) -> None:
    assert not +found.left_out
    objects = pixels(found)
    assert [name for name, _ in objects] == ["zebra"] * times
    for _, mask in objects:
        assert np.array_equal(mask, BOX)


def coco(*segmentations: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "a/b.jpg", "height": H, "width": W}],
        "categories": [{"id": 3, "name": "zebra"}],
        "annotations": [
            {"id": at, "image_id": 7, "category_id": 3, "segmentation": each, "area": 15}
            for at, each in enumerate(segmentations)
        ],
    }


def test_coco_polygons_and_both_run_lengths(tmp_path: Path) -> None:
    plain: list[int] = []
    flat = BOX.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    plain = np.diff([0, *edges, len(flat)]).tolist()
    found = read(tmp_path / "a.json", coco(
        [[2, 1, 7, 1, 7, 4, 2, 4]], run_lengths(BOX), {"size": [H, W], "counts": plain},
    ))  # fmt: skip
    assert_box(found, 3)
    assert found.images[0].names == ("a/b.jpg",)


def test_what_coco_has_without_a_usable_mask_is_counted(tmp_path: Path) -> None:
    file = coco(None, [[1, 1, 2, 2]], {"size": [2, 2], "counts": [1, 3]}, run_lengths(BOX & False))
    for annotation in file["annotations"]:
        del annotation["area"]
    file["annotations"].append(
        {"id": 9, "image_id": 8, "category_id": 3, "segmentation": run_lengths(BOX)}
    )
    found = read(tmp_path / "a.json", file)
    assert pixels(found) == []
    assert dict(+found.left_out) == {"no_mask": 1, "bad_mask": 3, "empty_mask": 1}


CVAT = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><image>no image</image></task></meta>
<image id="0" name="b.jpg" width="{W}" height="{H}">
%s
</image></annotations>"""


def test_cvat_polygons_and_masks(tmp_path: Path) -> None:
    found = read(tmp_path / "a.xml", CVAT % """
        <polygon label="zebra" source="manual" occluded="0" points="2,1;7,1;7.0,4.0;2,4"/>
        <mask label="zebra" rle="0, 15" left="2" top="1" width="5" height="3"/>
        <mask label="zebra" rle="7, 5, 2, 5, 2, 5, 2" left="0" top="1" width="7" height="4"/>
        <polygon label="zebra" group_id="4" points="2,1;4,1;4,4;2,4"/>
        <polygon label="zebra" group_id="4" points="4,1;7,1;7,4;4,4"/>
    """.replace("7, 5, 2, 5, 2, 5, 2", "2, 5, 2, 5, 2, 5, 7"))  # fmt: skip
    assert_box(found, 4)
    assert found.images[-1].names == ("b.jpg",)


@pytest.mark.parametrize(("shape", "reason"), [
    ('<box label="zebra" xtl="1" ytl="1" xbr="2" ybr="2"/>', "no_mask"),
    ('<polygon label="zebra" points="1,1;2,2"/>', "bad_mask"),
    ('<polygon label="zebra" points="1,1;2,2;nan,3"/>', "bad_mask"),
    ('<polygon label="zebra" points="1,1;2;3,3"/>', "bad_mask"),
    ('<polygon label="zebra" points="50,50;60,50;60,60"/>', "empty_mask"),
    ('<mask label="zebra" rle="0, 15" left="7" top="1" width="5" height="3"/>', "bad_mask"),
    ('<mask label="zebra" rle="1, 99999999999999999999" left="0" top="0" width="5" height="3"/>',
     "bad_mask"),
    ('<mask label="zebra" rle="15" left="0" top="0" width="5" height="3"/>', "empty_mask"),
])  # fmt: skip
def test_what_cvat_has_without_a_usable_mask_is_counted(
    tmp_path: Path, shape: str, reason: str
) -> None:
    found = read(tmp_path / "a.xml", CVAT % shape)
    assert pixels(found) == []
    assert dict(+found.left_out) == {reason: 1}


def brush(mask: np.ndarray, *, literal: bool) -> list[int]:
    """Label Studio's run lengths, as runs or value by value."""
    values = np.repeat(mask.ravel() * 255, 4)
    bits = f"{len(values):032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    at = 0
    while at < len(values):
        if literal:
            some = values[at : at + 200]
            bits += f"0{2:02b}{len(some) - 1:08b}" + "".join(f"{value:08b}" for value in some)
            at += len(some)
            continue
        end = at
        while end < len(values) and values[end] == values[at] and end - at < 8:
            end += 1
        bits += f"1{0:02b}{end - at - 1:03b}{values[at]:08b}"
        at = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def result(kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": kind, "original_width": W, "original_height": H, "value": value, **more}


def task(*results: Any, **more: Any) -> dict[str, Any]:
    return {"data": {"image": "/data/upload/1/0a1b2c3d-b.jpg"},
            "annotations": [{"result": list(results), **more}]}  # fmt: skip


def test_label_studio_brushes_and_polygons(tmp_path: Path) -> None:
    corners = [[100 * x / W, 100 * y / H] for x, y in ((2, 1), (7, 1), (7, 4), (2, 4))]
    rle = brush(BOX, literal=False)
    found = read(tmp_path / "a.json", [task(
        result("brushlabels", {"format": "rle", "rle": rle, "brushlabels": ["zebra"]}),
        result("brushlabels", {"rle": brush(BOX, literal=True), "brushlabels": ["zebra"]}),
        result("polygonlabels", {"points": corners, "polygonlabels": ["zebra"]}),
        result("brush", {"rle": rle}, id="r1"), result("labels", {"labels": ["zebra"]}, id="r1"),
        {"type": "choices", "value": {"choices": ["fine"]}},
    )])  # fmt: skip
    assert_box(found, 4)
    assert found.images[0].names == ("/data/upload/1/0a1b2c3d-b.jpg",)


def test_tasks_that_nobody_has_finished_are_passed_over(tmp_path: Path) -> None:
    value = {"rle": brush(BOX, literal=False), "brushlabels": ["zebra"]}
    waiting = task() | {"annotations": [], "predictions": [{"result": [result("brush", value)]}]}
    found = read(tmp_path / "a.json", [task(result("brush", value), was_cancelled=True), waiting])
    assert found.images == []


@pytest.mark.parametrize("is_first", [False, True])
def test_of_several_annotations_the_latest_counts(tmp_path: Path, is_first: bool) -> None:
    value = {"rle": brush(BOX, literal=False), "brushlabels": ["zebra"]}
    one = {"result": [], "updated_at": "2030-01-31T12:00:00.5Z"}
    latest = {"result": [result("brushlabels", value)], "updated_at": "2030-01-31T12:00:01Z"}
    both = [latest, one] if is_first else [one, latest]
    assert_box(read(tmp_path / "a.json", [task() | {"annotations": both}]), 1)


@pytest.mark.parametrize("value", [
    {"rle": [1, 2, 3], "brushlabels": ["zebra"]},
    {"rle": [300], "brushlabels": ["zebra"]},
    {"rle": "text", "brushlabels": ["zebra"]},
    {"rle": brush(BOX[:3], literal=False), "brushlabels": ["zebra"]},
    {"points": [[1, 2], [3]], "polygonlabels": ["zebra"]},
    {"points": "text", "polygonlabels": ["zebra"]},
])  # fmt: skip
def test_bad_masks_of_label_studio_are_counted(tmp_path: Path, value: dict[str, Any]) -> None:
    found = read(tmp_path / "a.json", [task(result("brush", value))])
    assert pixels(found) == []
    assert dict(+found.left_out) == {"bad_mask": 1}


def test_brushes_of_any_shape_come_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        mask = rng.uniform(size=(7, 11)) < 0.4
        for literal in (False, True):
            assert np.array_equal(brush_pixels(brush(mask, literal=literal), 7, 11), mask)


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", '{"images": []}', "not JSON", "",
                                     "<annotations>", "<svg/>", "<!DOCTYPE a><annotations/>",
                                     '<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>',
                                     ])  # fmt: skip
def test_other_files_are_one_sentence(tmp_path: Path, content: str) -> None:
    with pytest.raises(CorpusError, match=r"file\.txt") as caught:
        read(tmp_path / "file.txt", content)
    assert "\n" not in str(caught.value)
