"""Images of the hard world: several objects, exact masks, look-alikes, clutter, images of none."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from made_world.scenes.captions import caption
from made_world.scenes.hard import hard_image
from made_world.things.kinds import CLUTTER, KINDS, KINDS_AND_SENSES, LOOK_ALIKES, sort_of, word_for


def named(image):
    return [one for one in image.objects if sort_of(one.kind) != "clutter"]


def digest(image):
    content = b"".join(one.kind.encode() + one.mask.tobytes() for one in image.objects)
    return hashlib.sha256(image.pixels.tobytes() + content).hexdigest()


def test_images_depend_on_seed_and_number_alone():
    forward = [digest(hard_image(3, number)) for number in range(6)]
    assert [digest(hard_image(3, number)) for number in reversed(range(6))] == forward[::-1]
    assert len(set(forward)) == 6
    assert digest(hard_image(4, 0)) != forward[0]


def test_masks_are_exact_and_disjoint(hard_sample):
    for image in hard_sample:
        height, width, channels = image.pixels.shape
        assert channels == 3
        assert 112 <= min(height, width) <= max(height, width) <= 160
        for one in image.objects:
            assert one.mask.shape == (height, width)
            assert one.mask.any()
            assert 0 < one.visible <= 1
        for one in named(image):
            assert one.mask.sum() >= 60
        assert np.sum([one.mask for one in image.objects], axis=0).max(initial=0) <= 1


def test_images_show_one_to_six_objects_or_none(hard_sample):
    counts = Counter(len(named(image)) for image in hard_sample)
    shown = [count for count in counts.elements() if count]
    assert set(shown) == {1, 2, 3, 4, 5, 6}
    assert 2.1 < np.mean(shown) < 2.8
    assert 0.08 <= counts[0] / len(hard_sample) <= 0.16
    assert all(image.objects for image in hard_sample if not named(image))


def test_all_kinds_and_their_look_alikes_occur(hard_sample):
    counts = Counter(one.kind for image in hard_sample for one in image.objects)
    assert counts.keys() == {*KINDS, *LOOK_ALIKES, *CLUTTER}
    alike = sum(counts[kind] for kind in LOOK_ALIKES)
    of_a_kind = sum(counts[kind] for kind in KINDS)
    assert 0.09 < alike / (alike + of_a_kind) < 0.18


def test_objects_are_hidden_cut_off_and_small(hard_sample):
    objects = [one for image in hard_sample for one in named(image)]
    assert 0.1 < np.mean([one.visible < 0.9 for one in objects]) < 0.4
    assert np.mean([one.size < 0.25 for one in objects]) > 0.25
    at_the_edge = [
        one.mask[[0, -1]].any() or one.mask[:, [0, -1]].any()
        for one in objects
        if one.visible < 0.9
    ]
    assert 0.1 < np.mean(at_the_edge) < 0.9


def test_kinds_can_be_chosen_and_unknown_ones_are_refused():
    some = ("bat animal", "wooden bat")
    kinds = {one.kind for at in range(30) for one in hard_image(1, at, some).objects}
    assert kinds & set(KINDS_AND_SENSES) == set(some)
    with pytest.raises(ValueError, match="unicorn"):
        hard_image(1, 1, ("unicorn",))


def test_captions_name_all_but_clutter(hard_sample):
    for number, image in enumerate(hard_sample[:100]):
        text = caption(image, 5, number)
        stems = {word_for(one.kind)[:3] for one in named(image)}
        assert all(stem in text for stem in stems), text
        assert not any(thing in text for thing in ("pebble", "scrap"))


def test_captions_call_senses_by_the_name_that_they_share():
    images = [hard_image(2, number, ("crane bird",)) for number in range(12)]
    images = [
        image for image in images if [one.kind for one in named(image)].count("crane bird") == 1
    ]
    texts = [caption(image, 1, number) for image in images for number in range(20)]
    with_own_name = ["crane bird" in text for text in texts]
    assert all("crane" in text for text in texts)
    assert 0.25 < np.mean(with_own_name) < 0.55
