"""COCO scores: equal to pycocotools', known cases, and refused input."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import math
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from zutis_model.scores.coco import CocoScores, evaluate_instances

K = 4


def encode(mask: np.ndarray) -> dict[str, Any]:
    encoding = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": encoding["size"], "counts": encoding["counts"].decode("ascii")}


def box(size: tuple[int, int], y: int, x: int, height: int, width: int) -> dict[str, Any]:
    mask = np.zeros(size, dtype=bool)
    mask[y : y + height, x : x + width] = True
    return encode(mask)


def annotation(image_id: int, category_id: int, rle: dict[str, Any], *, crowd: int = 0) -> dict:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": rle,
        "area": float(coco_mask.area(rle)),
        "iscrowd": crowd,
    }


def predicted(image_id: int, category_id: int, rle: dict[str, Any], score: float) -> dict:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": rle,
        "score": score,
    }


def random_case(seed: int) -> tuple[list[dict], list[dict], list[dict]]:
    """Images, annotations and predictions of all sizes, with crowds, misses and false alarms."""
    rng = np.random.default_rng(seed)
    images, annotations, predictions = [], [], []
    for image_id in (7, 3, 11, 20, 21):
        size = (int(rng.integers(150, 220)), int(rng.integers(150, 220)))
        images.append({"id": image_id, "height": size[0], "width": size[1]})
        for _ in range(0 if image_id == 20 else rng.integers(2, 9)):
            side = int(rng.choice([12, 40, 120]))
            y, x = (int(rng.integers(0, edge - side)) for edge in size)
            category = int(rng.integers(1, K))  # the last one has no object
            annotations.append(annotation(image_id, category, box(size, y, x, side, side),
                                crowd=int(rng.random() < 0.15)))  # fmt: skip
            for _ in range(rng.integers(0, 3)):
                dy, dx = (int(d) for d in rng.integers(0, side // 4 + 1, 2))
                guess = category if rng.random() < 0.8 else int(rng.integers(1, K + 1))
                near = box(size, y + dy, x + dx, side, side)
                predictions.append(predicted(image_id, guess, near, float(rng.random())))
        for _ in range(6):
            y, x = (int(rng.integers(0, edge - 30)) for edge in size)
            guess = int(rng.integers(1, K + 1))
            predictions.append(
                predicted(image_id, guess, box(size, y, x, 30, 25), float(rng.random()))
            )
    return images, annotations, predictions


def by_pycocotools(
    images: list[dict],
    annotations: list[dict],
    predictions: list[dict],
    category_ids: list[int] | None = None,
    *,
    class_agnostic: bool = False,
) -> list[float]:
    """Its twelve numbers, as its own demonstration calls it."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = {
            "images": images,
            "categories": [{"id": k} for k in range(1, K + 1)],
            "annotations": [
                {**row, "id": n} for n, row in enumerate(copy.deepcopy(annotations), start=1)
            ],
        }
        ground_truth.createIndex()
        evaluation = COCOeval(
            ground_truth, ground_truth.loadRes(copy.deepcopy(predictions)), "segm"
        )
        if category_ids is not None:
            evaluation.params.catIds = category_ids
        if class_agnostic:
            evaluation.params.useCats = 0
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(evaluation.stats)


def assert_same(scores: CocoScores, expected: list[float]) -> None:
    ours = [-1.0 if math.isnan(value) else value for value in dataclasses.asdict(scores).values()]
    assert ours == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_pycocotools(seed: int) -> None:
    case = random_case(seed)
    expected = by_pycocotools(*case)
    assert 0.05 < expected[0] < 0.95
    assert_same(evaluate_instances(*case, K).scores(), expected)


@pytest.mark.parametrize("seed", range(3))
def test_class_agnostic_scores_are_those_of_pycocotools(seed: int) -> None:
    case = random_case(seed)
    agnostic = by_pycocotools(*case, class_agnostic=True)
    assert agnostic != pytest.approx(by_pycocotools(*case))
    assert_same(evaluate_instances(*case, K, class_agnostic=True).scores(), agnostic)


@pytest.mark.parametrize("category_ids", [[1], [2, 3], [1, 4]])
def test_scores_of_some_categories_are_those_of_an_evaluation_of_them_alone(
    category_ids: list[int],
) -> None:
    case = random_case(5)
    evaluation = evaluate_instances(*case, K)
    assert_same(evaluation.scores(category_ids), by_pycocotools(*case, category_ids))


def test_class_ap_averages_to_ap() -> None:
    evaluation = evaluate_instances(*random_case(1), K)
    by_class = evaluation.class_ap()
    assert by_class.shape == (K,)
    assert np.isnan(by_class[-1])
    assert np.nanmean(by_class) == pytest.approx(evaluation.scores().ap, abs=1e-12)
    assert by_class[0] == pytest.approx(evaluation.scores([1]).ap, abs=1e-12)


SIZE = (40, 50)
IMAGES = [{"id": n, "height": 40, "width": 50} for n in (1, 2)]
LEFT, RIGHT = box(SIZE, 5, 5, 20, 20), box(SIZE, 5, 28, 20, 20)


def test_perfect_masks_score_one() -> None:
    annotations = [annotation(1, 1, LEFT), annotation(1, 2, RIGHT), annotation(2, 1, RIGHT)]
    predictions = [predicted(1, 1, LEFT, 0.9), predicted(1, 2, RIGHT, 0.1),
                   predicted(2, 1, RIGHT, 0.5)]  # fmt: skip
    scores = evaluate_instances(IMAGES, annotations, predictions, 2).scores()
    assert (scores.ap, scores.ap50, scores.ap75, scores.ar_100) == (1, 1, 1, 1)
    assert scores.ap_small == 1
    assert math.isnan(scores.ap_large)


def test_a_case_by_hand() -> None:
    """Two objects, found by the predictions of rank 1 and 3: precision 1 up to recall 1/2, that
    is at 51 of the 101 levels, and 2/3 at the other 50. The first fits with an IoU of 0.8: right
    at the thresholds 0.5 to 0.8, seven of ten."""
    annotations = [annotation(1, 1, LEFT), annotation(2, 1, LEFT)]
    predictions = [
        predicted(1, 1, box(SIZE, 5, 5, 20, 16), 0.9),
        predicted(1, 1, RIGHT, 0.8),
        predicted(2, 1, LEFT, 0.7),
    ]
    scores = evaluate_instances(IMAGES, annotations, predictions, 1).scores()
    loose = (51 * 1 + 50 * 2 / 3) / 101
    # At the other three only the third is right: precision 1/3 up to recall 1/2.
    strict = (51 * 1 / 3) / 101
    assert scores.ap50 == pytest.approx(loose, abs=1e-12)
    assert scores.ap75 == pytest.approx(loose, abs=1e-12)
    assert scores.ap == pytest.approx((7 * loose + 3 * strict) / 10, abs=1e-12)
    assert scores.ar_1 == pytest.approx((7 * 1 + 3 * 0.5) / 10, abs=1e-12)


def test_a_prediction_in_a_crowd_is_neither_right_nor_wrong() -> None:
    annotations = [annotation(1, 1, LEFT), annotation(1, 1, RIGHT, crowd=1)]
    predictions = [predicted(1, 1, box(SIZE, 8, 30, 9, 9), 0.9), predicted(1, 1, LEFT, 0.5)]
    assert evaluate_instances(IMAGES, annotations, predictions, 1).scores().ap == pytest.approx(1)
    annotations[1]["iscrowd"] = 0
    assert evaluate_instances(IMAGES, annotations, predictions, 1).scores().ap < 0.5


def test_a_prediction_in_an_image_without_objects_is_wrong() -> None:
    annotations = [annotation(1, 1, LEFT)]
    predictions = [predicted(2, 1, LEFT, 0.9), predicted(1, 1, LEFT, 0.5)]
    assert evaluate_instances(IMAGES, annotations, predictions, 1).scores().ap == pytest.approx(0.5)


def test_without_predictions_nothing_is_found() -> None:
    scores = evaluate_instances(IMAGES, [annotation(1, 1, LEFT)], [], 1).scores()
    assert (scores.ap, scores.ar_100) == (0, 0)


def test_without_truth_nothing_is_defined() -> None:
    scores = evaluate_instances(IMAGES, [], [predicted(1, 1, LEFT, 0.5)], 1).scores()
    assert all(math.isnan(value) for value in dataclasses.asdict(scores).values())


def test_boxes_of_predictions_do_not_decide_their_size() -> None:
    """A wrong prediction counts in the size class of its mask: it is small, its box is not."""
    size = (200, 200)
    images = [{"id": 1, "height": 200, "width": 200}]
    rows, columns = np.ogrid[:200, :200]
    line = encode((rows == columns) & (rows < 120))
    annotations = [
        annotation(1, 1, box(size, 130, 20, 50, 50)),
        annotation(1, 1, box(size, 150, 150, 20, 20)),
    ]
    predictions = [
        {**predicted(1, 1, line, 0.9), "bbox": [0, 0, 120, 120]},
        predicted(1, 1, annotations[0]["segmentation"], 0.8),
        predicted(1, 1, annotations[1]["segmentation"], 0.7),
    ]
    scores = evaluate_instances(images, annotations, predictions, 1).scores()
    assert scores.ap_medium == pytest.approx(1)
    assert scores.ap_small == pytest.approx(0.5)


def test_nothing_is_printed_and_nothing_given_is_changed(capsys: pytest.CaptureFixture) -> None:
    case = random_case(2)
    before = copy.deepcopy(case)
    evaluate_instances(*case, K)
    assert case == before
    assert capsys.readouterr() == ("", "")


def test_the_order_of_images_changes_nothing() -> None:
    images, annotations, predictions = random_case(3)
    scores = evaluate_instances(images, annotations, predictions, K).scores()
    again = evaluate_instances(images[::-1], annotations[::-1], predictions[::-1], K).scores()
    assert dataclasses.astuple(again) == pytest.approx(dataclasses.astuple(scores), nan_ok=True)


@pytest.mark.parametrize(
    ("images", "annotations", "predictions", "message"),
    [
        ([], [], [], "images must not be empty"),
        (IMAGES * 2, [], [], "got 1 twice"),
        (IMAGES, [annotation(9, 1, LEFT)], [], "annotations must be of the images, got image_id 9"),
        (IMAGES, [], [predicted(9, 1, LEFT, 0.5)], "predictions must be of the images"),
        (IMAGES, [annotation(1, 3, LEFT)], [], r"annotations must have categories in 1..2, got 3"),
        (IMAGES, [], [predicted(1, 0, LEFT, 0.5)], r"categories in 1..2, got 0"),
        (IMAGES, [], [predicted(1, 1, box((50, 40), 0, 0, 5, 5), 0.5)], r"size \[40, 50\], got"),
        (IMAGES, [], [predicted(1, 1, LEFT, math.nan)], "finite scores, got nan"),
    ],
)
def test_input_that_does_not_fit_is_refused(
    images: list[dict], annotations: list[dict], predictions: list[dict], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_instances(images, annotations, predictions, 2)


def test_unknown_categories_have_no_scores() -> None:
    evaluation = evaluate_instances(IMAGES, [annotation(1, 1, LEFT)], [], 2)
    with pytest.raises(ValueError, match=r"category_ids must be in 1..2, got 3"):
        evaluation.scores([3])
