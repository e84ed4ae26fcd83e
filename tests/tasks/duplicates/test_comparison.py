"""Images that show the same are told from those that don't, however they were changed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.near_copies import CHANGES, SEVERAL
from made_world.scenes.images import corpus_image
from tasks.duplicates.comparison import THUMBNAIL_SIDE, Comparison, compare
from tasks.duplicates.settings import MatchingConfig
from tasks.duplicates.thumbnails import make_thumbnail

GREATEST = MatchingConfig().greatest_distance


@lru_cache
def made_images(count: int) -> list[Image.Image]:
    return [Image.fromarray(corpus_image(3, number).pixels) for number in range(count)]


@pytest.fixture(scope="module")
def photographs(test_data: Path) -> list[Image.Image]:
    paths = sorted((test_data / "coco128" / "images").glob("*.jpg"))[::16]
    return [Image.open(path).convert("RGB") for path in paths]


def thumbnails(images: Sequence[Image.Image]) -> np.ndarray:
    return np.stack([make_thumbnail(image) for image in images])


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def compare_with_copies(images: Sequence[Image.Image], change: str) -> Comparison:
    rng = np.random.default_rng(0)
    make = CHANGES.get(change, SEVERAL)
    copies = [opened(make(image, rng)) for image in images]
    return compare(thumbnails(images), thumbnails(copies))


@pytest.mark.parametrize("change", [*CHANGES, "several"])
def test_made_images_are_found_again(change: str) -> None:
    distance = compare_with_copies(made_images(10), change).distance
    assert np.mean(distance <= GREATEST) >= 0.95


@pytest.mark.parametrize("change", [*CHANGES, "several"])
def test_photographs_are_found_again(change: str, photographs: list[Image.Image]) -> None:
    assert compare_with_copies(photographs, change).distance.max() <= GREATEST


def test_different_made_images_differ() -> None:
    check_that_all_differ(made_images(10))


def test_different_photographs_differ(photographs: list[Image.Image]) -> None:
    check_that_all_differ(photographs)


def check_that_all_differ(images: Sequence[Image.Image]) -> None:
    first, second = np.array(list(combinations(range(len(images)), 2))).T
    small = thumbnails(images)
    assert compare(small[first], small[second]).distance.min() > GREATEST


def noise(seed: int) -> np.ndarray:
    """uint8 [h, w, 3], an image with blobs of all sizes and colours."""
    rng = np.random.default_rng(seed)
    levels = [rng.uniform(0, 255, (size, size, 3)) for size in (3, 6, 12, 24)]
    whole = sum(
        np.asarray(
            [np.asarray(Image.fromarray(level[..., c]).resize((160, 120))) for c in range(3)]
        )
        for level in [each.astype(np.float32) for each in levels]
    )
    return np.clip(whole.transpose(1, 2, 0) / 4, 0, 255).astype(np.uint8)


def compare_arrays(first: np.ndarray, second: np.ndarray) -> Comparison:
    return compare(thumbnails([Image.fromarray(first)]), thumbnails([Image.fromarray(second)]))


def test_the_part_that_both_show_is_found() -> None:
    pixels = noise(0)
    crop = pixels[12:108, 8:152]  # 120 x 160
    [[whole, part]] = compare_arrays(pixels, crop).parts
    np.testing.assert_allclose(whole, [[0.1, 0.9], [0.05, 0.95]], atol=0.015)
    np.testing.assert_allclose(part, [[0, 1], [0, 1]], atol=0.015)
    [[part, whole]] = compare_arrays(crop, pixels).parts
    np.testing.assert_allclose(whole, [[0.1, 0.9], [0.05, 0.95]], atol=0.03)
    np.testing.assert_allclose(part, [[0, 1], [0, 1]], atol=0.03)


def test_each_image_may_show_more_of_one_axis() -> None:
    """As a square and a wide crop of the same original do."""
    pixels = noise(1)
    comparison = compare_arrays(pixels[:, 16:144], pixels[12:108])
    assert comparison.distance < 0.02
    [[first, second]] = comparison.parts
    np.testing.assert_allclose(first, [[0.1, 0.9], [0, 1]], atol=0.03)
    np.testing.assert_allclose(second, [[0, 1], [0.1, 0.9]], atol=0.03)


def test_a_mirrored_image_is_told_from_its_origin() -> None:
    pixels = noise(2)
    assert compare_arrays(pixels, pixels[:, ::-1]).mirrored.tolist() == [True]
    assert compare_arrays(pixels, pixels).mirrored.tolist() == [False]


def test_contrast_is_compared() -> None:
    pixels = noise(3)
    dim = (pixels * 0.5).astype(np.uint8)
    comparison = compare_arrays(pixels, dim)
    assert comparison.gain == pytest.approx(0.5, abs=0.02)
    assert comparison.distance < 0.01


def test_colours_count() -> None:
    """A shape in red and the same in blue are two products of a shop."""
    red = np.full((64, 64, 3), 230, np.uint8)
    red[16:48, 16:40] = (200, 40, 40)
    blue = red[..., ::-1]
    assert compare_arrays(red, blue).distance > GREATEST
    assert compare_arrays(red, red).distance < 1e-3


def test_images_without_contrast_match_nothing() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert compare_arrays(grey, grey).distance.tolist() == [1.0]
    assert compare_arrays(grey, noise(4)).distance.tolist() == [1.0]


def test_a_pair_is_compared_alike_in_any_company() -> None:
    small = thumbnails(made_images(10))
    many = np.concatenate([small] * 7)
    together = compare(many, np.roll(many, 1, axis=0)).distance
    alone = compare(small[5:6], small[4:5]).distance
    assert together[5] == pytest.approx(alone[0], abs=1e-4)


def test_no_pairs_give_nothing() -> None:
    none = np.empty((0, THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), np.uint8)
    assert len(compare(none, none).distance) == 0
