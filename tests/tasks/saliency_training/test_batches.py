from __future__ import annotations

import numpy as np
import pytest

from tasks.saliency_training.batches import recoloured, selfmask_batches, size_for_whole_images


def image(shade: int, size=(40, 52)) -> tuple[np.ndarray, np.ndarray]:
    """An image of a white square on a uniform background, and its mask."""
    pixels = np.full((*size, 3), shade, dtype=np.uint8)
    mask = np.zeros(size, dtype=bool)
    mask[10:26, 8:24] = True
    pixels[mask] = 255
    return pixels, mask


IMAGES, MASKS = zip(*[image(shade) for shade in (20, 60, 100, 140)], strict=True)


def batches(seed=0, batch_size=4, images=IMAGES, masks=MASKS, image_size=24):
    return selfmask_batches(images, masks, batch_size=batch_size, image_size=image_size, seed=seed)


def test_masks_stay_on_their_objects():
    some = batches()
    sides = set()
    for _ in range(12):
        pixels, masks = next(some)
        assert pixels.shape == (4, 24, 24, 3)
        assert pixels.dtype == np.uint8
        assert masks.shape == (4, 24, 24)
        assert masks.dtype == bool
        for view, mask in zip(pixels, masks, strict=True):
            light = view.astype(int).sum(axis=-1)
            middle = (light.max() + light.min()) / 2
            assert np.mean((light > middle) != mask) < 0.06
            sides.add(mask[:, :12].sum() > mask[:, 12:].sum())
    assert sides == {True, False}  # flipped or not


def test_every_image_comes_once_in_a_round():
    some = batches(batch_size=2)
    for _ in range(3):
        masks_of_round = np.concatenate([next(some)[0] for _ in range(2)])
        shades = sorted(int(view.min()) for view in masks_of_round)
        assert len({round(shade / 40) for shade in shades}) >= 3


def test_most_of_the_thing_is_seen():
    some = batches(seed=3)
    for _ in range(10):
        assert (next(some)[1].mean(axis=(1, 2)) > 0.08).all()


def test_a_thing_that_no_part_holds():
    """The mask fills an elongated image, so that the whole image is used."""
    pixels = np.full((20, 200, 3), 90, dtype=np.uint8)
    mask = np.ones((20, 200), dtype=bool)
    _, masks = next(batches(images=[pixels], masks=[mask]))
    assert masks.all()


def test_the_seed_alone_decides():
    one, same, other = (next(batches(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one[0], same[0])
    np.testing.assert_array_equal(one[1], same[1])
    assert not np.array_equal(one[0], other[0])


def test_fewer_images_than_a_batch():
    pixels, _ = next(batches(images=IMAGES[:1], masks=MASKS[:1]))
    assert len(np.unique(pixels.reshape(4, -1), axis=0)) == 4


def test_colours_change_a_little():
    pixels = np.random.default_rng(0).integers(40, 200, (64, 8, 8, 3)).astype(np.uint8)
    changed = recoloured(pixels, np.random.default_rng(1))
    difference = np.abs(changed.astype(int) - pixels).mean(axis=(1, 2, 3))
    assert 5 < difference.mean() < 60
    assert len(np.unique(difference)) > 50
    grey = (np.ptp(changed.astype(int), axis=-1) <= 1).all(axis=(1, 2))
    assert 0 < grey.sum() < 15


def test_the_size_for_whole_images():
    assert size_for_whole_images(96) == 128
    assert size_for_whole_images(128) % 8 == 0


def test_images_and_masks_that_do_not_match():
    with pytest.raises(ValueError, match="as many masks"):
        next(batches(masks=MASKS[:2]))
    with pytest.raises(ValueError, match="as many masks"):
        next(batches(images=(), masks=()))
    with pytest.raises(ValueError, match="differ in size"):
        next(batches(masks=[mask[1:] for mask in MASKS]))


def test_scaled_views_are_whole_images_of_a_tenth_to_their_size():
    """As in the reference: reduced, at the top left, the rest filled with the mean colour."""
    some = selfmask_batches(
        IMAGES, MASKS, batch_size=4, image_size=80, seed=0, views="scaled"
    )  # fmt: skip
    areas = []
    for _ in range(25):
        for view, mask in zip(*next(some), strict=True):
            light = view.astype(int).sum(axis=-1)
            assert np.mean((light > (light.max() + light.min()) / 2) != mask) < 0.06
            areas.append(mask.mean())
    whole = MASKS[0].mean()
    assert max(areas) == pytest.approx(whole, rel=0.15)
    assert min(areas) < whole * 0.2**2
    assert min(areas) > 0


def test_no_other_views():
    with pytest.raises(ValueError, match="views must be parts or scaled, got 'whole'"):
        next(selfmask_batches(IMAGES, MASKS, batch_size=1, image_size=24, seed=0, views="whole"))
