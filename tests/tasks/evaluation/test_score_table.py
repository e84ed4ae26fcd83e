"""The table of scores in plain text: right numbers in the right columns."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.evaluation.score_table import score_rows, score_table, times


def class_row(label: int, name: str, **changes: Any) -> dict[str, Any]:
    return {"category_id": label, "name": name, "group": "", "iou": 0.5, "accuracy": 0.25,
            "pixels": 100, "predicted_pixels": 90, "ap": None, "objects": 0,
            "predicted_objects": 0} | changes  # fmt: skip


CLASSES = [
    class_row(0, "background", iou=0.9, pixels=700),
    class_row(1, 'a "red", kite', ap=0.123456789012345, objects=1234),
    class_row(2, "zèbre", iou=None, accuracy=None, pixels=0, ap=0.5),
]
COCO_SCORES = {
    name: number / 100
    for number, name in enumerate(
        ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100",
         "ar_small", "ar_medium", "ar_large"), start=10)
}  # fmt: skip
METRICS: dict[str, Any] = {
    "evaluation_set": {"name": "coco2017-val", "images": 5000, "images_of_the_set": 5000},
    "model": {"label": "train/0f3a", "method": "zutis", "untrained": False},
    "semantic": {
        "images": 5000,
        "mean_iou_with_background": 0.412,
        "mean_iou_without_background": 0.398,
        "background_iou": 0.8,
        "pixel_accuracy": 0.75,
        "mean_accuracy": 0.5,
        "frequency_weighted_iou": None,
    },
    "instance": {"by_category": COCO_SCORES, "class_agnostic": COCO_SCORES | {"ap": 0.077}},
    "classes": CLASSES,
}


def cells(table: str, first: str) -> list[str]:
    """The numbers of the only line that begins with a text."""
    [line] = [line for line in table.splitlines() if line.strip().startswith(first)]
    return line.strip().removeprefix(first).split()


def test_the_terminal_shows_scores_in_percent_and_undefined_ones_as_a_dash() -> None:
    table = score_table([METRICS])
    assert table.startswith("train/0f3a on coco2017-val, 5,000 images\n")
    assert cells(table, "mean IoU, background included") == ["41.2"]
    assert cells(table, "mean IoU, background left out") == ["39.8"]
    assert cells(table, "frequency-weighted IoU") == ["-"]
    assert cells(table, "AP50 ")[0] == "11.0"
    assert cells(table, "AP, class-agnostic") == ["7.7"]
    assert cells(table, 'a "red", kite') == ["50.0", "25.0", "12.5", "12.3", "1,234"]
    assert cells(table, "zèbre") == ["-", "-", "0.0", "50.0", "0"]
    assert "untrained" not in table
    assert max(len(line) for line in table.splitlines()) <= 80


def test_the_table_reports_a_partial_evaluation() -> None:
    metrics = METRICS | {
        "model": {"label": "random", "method": "zutis", "untrained": True},
        "evaluation_set": METRICS["evaluation_set"] | {"images": 20},
        "instance": None,
    }
    table = score_table([metrics], most_classes=1)
    assert "the first 20 of 5,000 images" in table
    assert "untrained: the scores mean nothing" in table
    assert "Instances" not in table
    assert "and 2 more" in table
    assert "zèbre" not in table


def test_the_terminal_shows_seen_and_unseen_categories_and_imagenet_s() -> None:
    semantic = METRICS["semantic"] | {
        "seen": {"categories": 65, "mean_iou": 0.4},
        "unseen": {"categories": 15, "mean_iou": 0.2},
        "harmonic_mean_iou": 0.2667,
        "imagenet_s": {"mean_iou": 0.1, "image_accuracy": 0.6, "f_measure": 0.7,
                       "mean_iou_s": None, "mean_iou_ms": 0.2, "mean_iou_ml": 0.3,
                       "mean_iou_l": 0.4},
    }  # fmt: skip
    instance = METRICS["instance"] | {
        group: COCO_SCORES | {"categories": number, "ap": number / 100}
        for group, number in (("seen", 65), ("unseen", 15))
    }
    table = score_table([METRICS | {"semantic": semantic, "instance": instance}])
    assert cells(table, "mean IoU, 15 unseen categories") == ["20.0"]
    assert cells(table, "AP, 65 seen categories") == ["65.0"]
    assert cells(table, "harmonic mean of both") == ["26.7"]
    assert cells(table, "ImageNet-S mean IoU, size S") == ["-"]
    assert cells(table, "ImageNet-S F-measure") == ["70.0"]


def test_models_stand_side_by_side() -> None:
    baseline = METRICS | {
        "model": METRICS["model"] | {"label": "MaskCLIP (B/16)", "method": "maskclip"},
        "semantic": METRICS["semantic"] | {"pixel_accuracy": 0.3, "imagenet_s": {"mean_iou": 0.1}},
        "classes": [row | {"iou": 0.2} for row in CLASSES],
    }
    table = score_table([baseline, METRICS])
    assert "MaskCLIP: MaskCLIP (B/16) on coco2017-val, 5,000 images\n" in table
    assert "ZUTIS: train/0f3a on coco2017-val, 5,000 images\n" in table
    assert cells(table, "Semantic") == ["MaskCLIP", "ZUTIS", "ratio"]
    assert cells(table, "pixel accuracy") == ["30.0", "75.0", "2.50"]
    assert cells(table, "ImageNet-S mean IoU") == ["10.0", "-", "-"]
    assert cells(table, 'a "red", kite') == ["20.0", "50.0", "12.3", "12.3", "1,234"]
    assert max(len(line) for line in table.splitlines()) <= 80


def beside_a_baseline(ours: float, theirs: float | None) -> list[dict[str, Any]]:
    def scored(method: str, value: float | None) -> dict[str, Any]:
        return METRICS | {
            "model": METRICS["model"] | {"method": method},
            "semantic": METRICS["semantic"] | {"mean_iou_with_background": value},
        }

    return [scored("maskclip", theirs), scored("zutis", ours)]


@pytest.mark.parametrize(
    ("theirs", "ratio"), [(0.3, "1.37"), (None, "-"), (0.0, "inf"), (0.412, "1.00")]
)
def test_a_model_beside_its_baseline_has_their_ratio(theirs, ratio) -> None:
    several = beside_a_baseline(0.412, theirs)
    assert cells(score_table(several), "mean IoU, background included")[-2:] == ["41.2", ratio]
    columns, rows = score_rows(several)
    assert columns == ("", "MaskCLIP", "ZUTIS", "ratio")
    assert rows[0][2:] == ("41.2", ratio)
    assert max(len(line) for line in score_table(several).splitlines()) <= 80


def test_one_model_alone_has_no_ratio() -> None:
    assert score_rows([METRICS])[0] == ("", "ZUTIS")
    assert "ratio" not in score_table([METRICS])


def test_nothing_is_not_more_than_nothing() -> None:
    assert times(0.0, 0.0) == 0.0
