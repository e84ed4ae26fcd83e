"""Label maps and overlays: exact for programs, legible for people."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.prediction.dense_segmenter import Segmentation
from tasks.prediction.overlays import (
    colours_of,
    draw_instances,
    draw_labels,
    draw_overlay,
    encode_label_map,
    shown,
)
from zutis_model.zutis.instance_prediction import Instances
from zutis_model.zutis.run_length_masks import RunLengthMasks

HEIGHT, WIDTH = 400, 500


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def segmentation(*objects: tuple[int, float, np.ndarray]) -> Segmentation:
    """Of (category, score, mask), best first; labels are those of the objects."""
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
    for category, _, mask in reversed(objects):
        labels[mask] = category
    masks = np.stack([mask for *_, mask in objects]) if objects else labels[:0].astype(bool)
    instances = Instances(
        category_ids=torch.tensor([category for category, *_ in objects], dtype=torch.int64),
        scores=torch.tensor([score for _, score, _ in objects]),
        masks=torch.from_numpy(masks.reshape(-1, HEIGHT, WIDTH)),
        boxes=torch.zeros(len(objects), 4),
    )
    return Segmentation(labels=labels, instances=instances)


@pytest.fixture
def grey() -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), 120, dtype=np.uint8)


def test_colours_differ_and_do_not_depend_on_their_number():
    few, many = colours_of(20), colours_of(919)
    assert few[0].tolist() == [0, 0, 0]
    assert np.array_equal(many[: len(few)], few)
    differences = np.abs(few[:, None].astype(int) - few[None]).sum(axis=2)
    assert differences[~np.eye(len(few), dtype=bool)].min() > 50
    assert len(np.unique(many, axis=0)) > 800


@pytest.mark.parametrize(
    ("categories", "mode"), [(1, "P"), (254, "P"), (255, "I;16"), (919, "I;16")]
)
def test_label_maps_hold_the_labels(categories, mode):
    labels = np.array([[0, 1], [categories - 1, categories]], dtype=np.int64)
    with Image.open(io.BytesIO(encode_label_map(labels, categories))) as image:
        assert image.mode == mode
        assert np.array_equal(np.asarray(image), labels)
        if mode == "P":
            shown = np.asarray(image.convert("RGB"))
            assert np.array_equal(shown, colours_of(categories)[labels])


def test_masks_are_translucent_and_the_rest_is_untouched(grey):
    grey[::2] = 40
    mask = rectangle(50, 50, 350, 450)
    drawn = np.asarray(draw_instances(grey, segmentation((1, 0.9, mask)), ["cat"]))
    assert np.array_equal(drawn[:40], grey[:40])
    inside = drawn[300:340, 60:100].astype(int)
    tint = colours_of(1)[1].astype(int)
    # The image's rows still show through, and all is nearer to the category's colour.
    assert np.abs(inside[0] - inside[1]).sum(axis=1).min() > 50
    assert np.abs(inside - tint).sum() < np.abs(grey[300:340, 60:100].astype(int) - tint).sum()


def test_the_instance_of_higher_score_is_on_top(grey):
    low, high = rectangle(50, 50, 300, 300), rectangle(100, 100, 350, 350)
    drawn = np.asarray(draw_instances(grey, segmentation((2, 0.9, high), (1, 0.5, low)), "ab"))
    overlap, only_low, only_high = drawn[120, 120], drawn[60, 60], drawn[330, 330]
    assert np.array_equal(overlap, only_high)
    assert not np.array_equal(overlap, only_low)


def test_names_are_written_on_plates_of_their_colour_inside_the_image(grey):
    labels = rectangle(0, 0, 400, 200) * 1 + rectangle(0, 200, 400, 500) * 2
    drawn = np.asarray(draw_labels(grey, labels, ["cat", "dog"]))
    for label, middle in ((1, (200, 100)), (2, (200, 350))):
        near = drawn[middle[0] - 12 : middle[0] + 12, middle[1] - 25 : middle[1] + 25]
        plate = (near == colours_of(2)[label]).all(axis=2)
        assert plate.sum() > 100
        ink = (near == 0).all(axis=2) | (near == 255).all(axis=2)
        assert ink.sum() > 10


def test_equal_places_do_not_hide_each_others_names(grey):
    masks = [rectangle(190, 240, 210 + i, 260) for i in range(3)]
    several = segmentation(*((i + 1, 0.9 - i / 10, mask) for i, mask in enumerate(masks)))
    drawn = np.asarray(draw_labels(grey, several.labels, ["a", "b", "c"]))
    crowded = np.asarray(draw_instances(grey, several, ["a", "b", "c"]))
    assert drawn.shape == crowded.shape
    plates = [(crowded == colour).all(axis=2).sum() for colour in colours_of(3)[1:]]
    assert min(plates) > 100


def test_small_images_are_enlarged_and_large_ones_reduced():
    small = np.zeros((16, 40, 3), dtype=np.uint8)
    assert draw_labels(small, np.zeros((16, 40), np.int64), ["a"]).size == (800, 320)
    wide = np.zeros((100, 5000, 3), dtype=np.uint8)
    assert draw_labels(wide, np.ones((100, 5000), np.int64), ["a"]).size == (2048, 41)


@pytest.mark.parametrize("name", ["a very long name " * 20, "hérisson", "シマウマ", "x"])
def test_any_name_can_be_written(grey, name):
    everything = segmentation((1, 0.5, rectangle(0, 0, HEIGHT, WIDTH)))
    overlay = draw_overlay(grey, everything, [name], remark="untrained")
    assert overlay.width == 2 * WIDTH + 4
    assert overlay.height > HEIGHT


def test_nothing_found_leaves_the_image_as_it_is(grey):
    overlay = np.asarray(draw_overlay(grey, segmentation(), ["a"]))
    assert np.array_equal(overlay[:, :WIDTH], grey)
    assert np.array_equal(overlay[:, -WIDTH:], grey)


@pytest.mark.parametrize("size", [(16, 40), (100, 5000), (300, 2000), (3000, 2001), (700, 701)])
def test_an_image_at_its_display_size_gives_the_same_overlay(size):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    labels = np.zeros(size, np.int64)
    labels[: size[0] // 2] = 1
    masks = torch.from_numpy(np.stack([labels == 1, labels >= 0]))
    instances = Instances(
        category_ids=torch.tensor([1, 2]),
        scores=torch.tensor([0.9, 0.3]),
        masks=masks,
        boxes=torch.zeros(2, 4),
    )
    whole = draw_overlay(pixels, Segmentation(labels=labels, instances=instances), ["a", "b"])
    compact = Instances(
        category_ids=instances.category_ids,
        scores=instances.scores,
        masks=RunLengthMasks.of(masks.numpy(), size),
        boxes=instances.boxes,
    )
    narrow = Segmentation(labels=labels.astype(np.int16), instances=compact)
    drawn = draw_overlay(shown(Image.fromarray(pixels)), narrow, ["a", "b"])
    assert np.array_equal(np.asarray(drawn), np.asarray(whole))
    assert encode_label_map(narrow.narrow_labels, 2) == encode_label_map(labels, 2)
