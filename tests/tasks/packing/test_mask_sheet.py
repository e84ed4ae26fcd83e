"""Drawn masks, and a sheet with examples from every part of a data set."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from storage.shards.samples import ShardSamples
from tasks.packing.mask_sheet import draw_mask, draw_mask_sheet
from tests.support.files.small_datasets import stored_sample, write_dataset


def square(height=40, width=60, side=20):
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[5 : 5 + side, 10 : 10 + side] = True
    return mask


def drawn_as_numbers(*arguments) -> np.ndarray:
    return np.asarray(draw_mask(*arguments)).astype(int)


def test_outside_is_dimmed_and_the_edge_is_yellow():
    drawn = drawn_as_numbers(np.full((40, 60, 3), 200, np.uint8), square())
    assert drawn.shape == (128, 192, 3)
    assert abs(drawn[48, 64] - 200).max() < 12  # inside: as it was
    assert abs(drawn[100, 150] - 70).max() < 12  # outside
    red, green, blue = drawn[48, 33]  # the left edge
    assert red > 180
    assert green > 150
    assert blue < 120


def test_the_ground_truth_is_outlined_only_on_request():
    pixels = np.full((40, 60, 3), 200, np.uint8)
    without = drawn_as_numbers(pixels, square())
    with_truth = drawn_as_numbers(pixels, square(), square(side=10))
    row, column = 48 - 2, 40  # the truth's lower edge, in the middle of the mask
    assert with_truth[row, column, 2] > 180
    assert with_truth[row, column, 0] < 120
    assert abs(without[row, column] - 200).max() < 12


def sheet_of(folder, labels, categories) -> np.ndarray:
    samples = [stored_sample(seed, label) for seed, label in enumerate(labels)]
    shards = ShardSamples.open(write_dataset(folder, samples, categories))
    return np.asarray(Image.open(io.BytesIO(draw_mask_sheet(shards))))


def test_a_sheet_has_some_of_each_category(tmp_path):
    sheet = sheet_of(tmp_path, [1] * 3 + [3] * 9, {1: "kite", 2: "zebra", 3: "cup"})
    rows, columns = 2, 6
    assert sheet.shape == (rows * 216 + 6, columns * 198 + 6, 3)
    images = sheet[6:-6, 6:-6].reshape(-1, 3)
    assert (images.max(axis=1) < 100).mean() > 0.2  # dimmed surroundings


def test_a_sheet_does_not_grow_with_the_data_set(tmp_path):
    labels = [number % 40 + 1 for number in range(80)]
    sheet = sheet_of(tmp_path, labels, {number: f"kind {number}" for number in range(1, 41)})
    assert sheet.shape == (5 * 216 + 6, 6 * 198 + 6, 3)


def test_a_single_sample(tmp_path):
    assert sheet_of(tmp_path, [1], {1: "kite"}).shape == (222, 204, 3)
