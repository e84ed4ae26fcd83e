"""Files of an evaluation: chosen images, readable tables, equal bytes for equal scores."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.evaluation.report import (
    COLUMNS,
    SheetRow,
    choose_images,
    draw_sheet,
    per_class_csv,
    predictions_json,
)

IGNORED = 65_535


def class_row(label: int, name: str, **changes: Any) -> dict[str, Any]:
    return {"category_id": label, "name": name, "group": "", "iou": 0.5, "accuracy": 0.25,
            "pixels": 100, "predicted_pixels": 90, "ap": None, "objects": 0,
            "predicted_objects": 0} | changes  # fmt: skip


CLASSES = [
    class_row(0, "background", iou=0.9, pixels=700),
    class_row(1, 'a "red", kite', ap=0.123456789012345, objects=1234),
    class_row(2, "zèbre", iou=None, accuracy=None, pixels=0, ap=0.5),
]


def test_the_table_by_class_can_be_read_back() -> None:
    prompts = [["background"], ["a red kite", "one kite, two"], ["a zèbre"]]
    rows = list(csv.DictReader(io.StringIO(per_class_csv(CLASSES, prompts).decode())))
    assert tuple(rows[0]) == COLUMNS
    assert [row["name"] for row in rows] == [row["name"] for row in CLASSES]
    assert float(rows[1]["ap"]) == CLASSES[1]["ap"]
    assert rows[2]["iou"] == ""
    assert rows[1]["prompts"].split("\n") == prompts[1]
    without = list(csv.DictReader(io.StringIO(per_class_csv(CLASSES, []).decode())))
    assert {row["prompts"] for row in without} == {""}


def test_best_median_and_worst_images_are_chosen() -> None:
    scores = [0.5, math.nan, 0.9, 0.1, 0.7, 0.3, 0.8, 0.2, 0.6, 0.4]
    chosen = choose_images(scores)
    assert [image.title for image in chosen] == [
        f"{kind} {n}" for kind in ("best", "median", "worst") for n in (1, 2, 3)
    ]
    assert [scores[image.index] for image in chosen] == [
        0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.1, 0.2, 0.3
    ]  # fmt: skip


@pytest.mark.parametrize("images", range(12))
def test_no_image_is_chosen_twice(images: int) -> None:
    chosen = [image.index for image in choose_images([0.5] * images)]
    assert len(set(chosen)) == len(chosen)
    assert len(chosen) == min(images, 3 * max(1, images // 3))


def test_images_without_a_score_are_not_chosen() -> None:
    assert choose_images([math.nan, math.nan]) == []


def sheet_row(size: tuple[int, int] = (40, 60), title: str = "best 1: a.jpg") -> SheetRow:
    pixels = np.full((*size, 3), 120, dtype=np.uint8)
    truth = np.zeros(size, dtype=np.int64)
    truth[5:25, 5:25] = 1
    truth[:, -10:] = IGNORED
    predicted = np.zeros(size, dtype=np.int64)
    predicted[10:35, 10:40] = 2
    return SheetRow(title=title, pixels=pixels, truth=truth, predicted=predicted)


def opened(sheet: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB")).astype(int)


def test_the_sheet_shows_image_ground_truth_and_prediction_side_by_side() -> None:
    sheet = opened(draw_sheet("model on set", [sheet_row()], ["red kite", "zebra"]))
    # Panels of 320 x 480 under two lines and the row's title, 8 pixels apart.
    image, truth, predicted = (sheet[78:398, x : x + 480] for x in (8, 496, 984))
    assert (image == 120).all()
    assert (truth != 120).any()
    assert (predicted != 120).any()
    assert (truth[:, 405:] == 255).all(), "what doesn't count is white"
    assert (truth[:, 230:390] == 120).all(), "the background stays as it is"
    assert (predicted[:, 405:] == 120).all()
    inside = truth[150:190, 60:190].reshape(-1, 3)
    assert (inside.max(axis=1) - inside.min(axis=1)).max() > 40, "objects are coloured"
    assert (sheet[:26] < 100).any(), "the title is written"
    assert (sheet[52:78] < 100).any(), "the row's title is written"


def test_the_sheet_takes_images_of_all_shapes() -> None:
    rows = [sheet_row((30, 300)), sheet_row((300, 30)), sheet_row((700, 900)), sheet_row((16, 16))]
    sheet = opened(draw_sheet("shapes", rows, ["a", "b"]))
    assert sheet.shape[1] <= 3 * 648 + 8
    assert sheet.shape[0] < 52 + 4 * (640 + 34)
    assert opened(draw_sheet("nothing", [], ["a"])).shape[0] == 52


def test_equal_rows_give_equal_sheets() -> None:
    names = ["red kite", "zebra"]
    first = draw_sheet("t", [sheet_row()], names)
    assert draw_sheet("t", [sheet_row()], names) == first
    assert draw_sheet("t", [sheet_row(title="worst 1: b.jpg")], names) != first


@pytest.mark.parametrize("count", [0, 1, 3])
def test_predictions_are_a_list_with_one_a_line(count: int) -> None:
    rows = [{"image_id": n, "score": 0.1 + n} for n in range(count)]
    text = predictions_json(rows)
    assert json.loads(text) == rows
    assert len(text.splitlines()) == count + 2
