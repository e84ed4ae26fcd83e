import math
import warnings
from dataclasses import astuple

import numpy as np
import pytest
import torch

from zutis_model.scores.segmentation_metrics import ConfusionMatrix, mask_iou


@pytest.fixture
def updates(parity_json, parity_arrays):
    """Labels, predictions, and the reference's scores after each update."""
    arrays = parity_arrays("metrics")
    expected = parity_json("metrics")["updates"]
    return [(arrays[f"gt_{i}"], arrays[f"pred_{i}"], e) for i, e in enumerate(expected)]


def scores_of(labels, predictions, num_classes=3):
    matrix = ConfusionMatrix(num_classes)
    matrix.update(np.array(labels), np.array(predictions))
    return matrix.scores()


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_agrees_with_the_reference(convert, updates, parity_arrays):
    matrix = ConfusionMatrix(6)
    for labels, predictions, expected in updates:
        matrix.update(convert(labels), convert(predictions))
        scores = matrix.scores()
        actual = {
            "Pixel Acc": scores.pixel_accuracy,
            "Mean Acc": scores.mean_accuracy,
            "FreqW Acc": scores.frequency_weighted_iou,
            "Mean IoU": scores.mean_iou,
        }
        assert actual == pytest.approx(expected["scores"], rel=0, abs=1e-12)
        class_iou = np.array(expected["class_iou"], dtype=float)  # null becomes NaN
        np.testing.assert_allclose(scores.class_iou, class_iou, rtol=0, atol=1e-12)
    assert matrix.matrix.dtype == np.int64
    assert np.array_equal(matrix.matrix, parity_arrays("metrics")["confusion_matrix"])


def test_scores_by_hand():
    scores = scores_of([0, 0, 0, 1, 1, 255], [0, 0, 1, 1, 1, 2])
    assert scores.pixel_accuracy == 4 / 5
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 1) / 2)
    np.testing.assert_array_equal(scores.class_iou, [2 / 3, 2 / 3, np.nan])
    assert scores.mean_iou == pytest.approx(2 / 3)
    assert scores.frequency_weighted_iou == pytest.approx(2 / 3)


def test_rows_are_the_ground_truth():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 0, 2]), np.array([1, 1, 0]))
    assert matrix.matrix.tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]


def test_class_that_is_only_predicted_counts_as_zero():
    scores = scores_of([0, 0], [0, 1])
    np.testing.assert_array_equal(scores.class_iou, [0.5, 0.0, np.nan])
    assert scores.mean_iou == 0.25
    assert scores.mean_accuracy == 0.5


@pytest.mark.parametrize("value", [None, 255])
def test_nothing_counted_is_undefined_without_a_warning(value):
    matrix = ConfusionMatrix(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if value is not None:
            matrix.update(np.full((2, 4), value, dtype=np.uint8), np.zeros((2, 4), dtype=np.uint8))
        scores = matrix.scores()
    *averages, class_iou = astuple(scores)
    assert all(math.isnan(average) for average in averages)
    assert np.isnan(class_iou).all()


def test_empty_update_changes_nothing():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([1]), np.array([1]))
    matrix.update(np.empty((0, 4), dtype=np.uint8), torch.empty((0, 4), dtype=torch.int64))
    assert matrix.matrix.sum() == 1


def test_merge_is_counting_in_one():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, (2, 3, 50))
    parts = [ConfusionMatrix(4) for _ in range(3)]
    whole = ConfusionMatrix(4)
    for part, label, prediction in zip(parts, labels, predictions, strict=True):
        part.update(label, prediction)
        whole.update(label, prediction)
    untouched = parts[1].matrix.copy()
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    assert np.array_equal(parts[0].matrix, whole.matrix)
    assert np.array_equal(parts[1].matrix, untouched)


@pytest.mark.parametrize("other", [ConfusionMatrix(4), ConfusionMatrix(3, ignore_index=-1)])
def test_merge_refuses_other_matrices(other):
    with pytest.raises(ValueError, match="can't merge"):
        ConfusionMatrix(3).merge(other)


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 1], [0, 3], r"predictions must be in 0\.\.2 where they count, got 3"),
        ([2, 1], [300, 0], "predictions .* got 300"),
        ([0, 1], [0, -1], "predictions .* got -1"),
        ([0, 3], [0, 0], r"labels must be in 0\.\.2 where they count, got 3"),
        ([0, -1], [0, 0], "labels .* got -1"),
        ([0, 1], [[0, 1]], r"labels \[2\] and predictions \[1, 2\] differ in shape"),
        ([0.0, 1.0], [0, 1], r"labels must be integers, got (torch\.)?float"),
        ([0, 1], [False, True], r"predictions must be integers, got (torch\.)?bool"),
    ],
)
def test_wrong_arrays_are_refused_and_not_counted(labels, predictions, message):
    for convert in (np.array, torch.tensor):
        matrix = ConfusionMatrix(3)
        with pytest.raises(ValueError, match=message):
            matrix.update(convert(labels), convert(predictions))
        assert not matrix.matrix.any()


def test_predictions_do_not_matter_where_the_label_is_ignored():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 255]), np.array([0, 255]))
    assert matrix.matrix.sum() == matrix.matrix[0, 0] == 1


@pytest.mark.parametrize(("num_classes", "ignore_index"), [(0, 255), (920, 255), (3, 0)])
def test_wrong_constructions_are_refused(num_classes, ignore_index):
    with pytest.raises(ValueError, match=r"num_classes|ignore_index"):
        ConfusionMatrix(num_classes, ignore_index)


@pytest.mark.parametrize("dtype", [np.uint16, np.int64])
def test_many_classes_and_unusual_arrays(dtype):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 920, (40, 30)).astype(dtype)
    labels[0, 0] = 1000
    predictions = rng.integers(0, 920, (40, 30)).astype(np.int32)
    expected = ConfusionMatrix(920, ignore_index=1000)
    for label, prediction in zip(labels.ravel(), predictions.ravel(), strict=True):
        if label != 1000:
            expected.matrix[label, prediction] += 1

    labels.flags.writeable = False
    matrix = ConfusionMatrix(920, ignore_index=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix.update(labels[::-1], torch.from_numpy(predictions[::-1].copy()))
    assert np.array_equal(matrix.matrix, expected.matrix)


def test_mask_iou():
    a = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    b = torch.zeros_like(a)
    a[0, 0, :2], b[0, 0, 1:3] = True, True  # 4 of 12
    a[0, 1] = b[0, 1] = True
    a[1, 0, 0] = True
    iou = mask_iou(a, b)
    assert iou.dtype == torch.float64
    assert iou.tolist() == [[4 / 12, 1.0], [0.0, 1.0]]  # the last: two empty masks
    assert torch.equal(mask_iou(b, a), iou)


def test_mask_iou_of_single_and_unusual_masks():
    a = np.eye(4, dtype=bool)
    a.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mask_iou(a[::-1], a).item() == 0.0
        assert mask_iou(a, torch.from_numpy(a.copy())).item() == 1.0
    assert mask_iou(np.zeros((3, 0, 5), dtype=bool), np.zeros((3, 0, 5), dtype=bool)).sum() == 3
    assert mask_iou(np.zeros((0, 4, 5), dtype=bool), np.zeros((0, 4, 5), dtype=bool)).shape == (0,)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((2, 2)), np.zeros((2, 2), dtype=bool)),
        (np.zeros((2, 2), dtype=bool), np.zeros((2, 2), dtype=np.uint8)),
        (np.zeros((2, 2), dtype=bool), np.zeros((1, 2, 2), dtype=bool)),
        (np.zeros(2, dtype=bool), np.zeros(2, dtype=bool)),
    ],
)
def test_mask_iou_refuses_other_arrays(a, b):
    with pytest.raises(ValueError, match=r"must be bool|differ in shape"):
        mask_iou(a, b)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees(updates):
    on_cpu, on_gpu = ConfusionMatrix(6), ConfusionMatrix(6)
    for labels, predictions, _ in updates:
        on_cpu.update(labels, predictions)
        on_gpu.update(labels, torch.from_numpy(predictions).cuda())
        on_gpu.update(torch.from_numpy(labels).cuda(), torch.from_numpy(predictions).cuda())
    assert np.array_equal(on_gpu.matrix, 2 * on_cpu.matrix)
    with pytest.raises(ValueError, match="predictions"):
        on_gpu.update(torch.tensor([0]).cuda(), torch.tensor([6]).cuda())
    masks = torch.rand(3, 5, 5) > 0.5
    assert torch.equal(mask_iou(masks.cuda(), masks).cpu(), torch.ones(3, dtype=torch.float64))
