"""Images: equal in every process, with exact masks, right sizes, and objects that stand out."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from made_world.drawing.colours import COLOURS, lab_from_rgb
from made_world.drawing.painting import TEXTURES
from made_world.scenes.backgrounds import TEXTURES as GROUNDS
from made_world.scenes.images import corpus_image, scene_image
from made_world.things.kinds import KINDS

ROOT = Path(__file__).parents[3]

DIGEST = """
import hashlib
from made_world.scenes.images import corpus_image, scene_image
digest = hashlib.sha256()
for number in {numbers}:
    for image in (corpus_image(9, number), scene_image(9, number)):
        digest.update(image.pixels.tobytes())
        for one in image.objects:
            digest.update(one.kind.encode() + one.mask.tobytes())
print(digest.hexdigest())
"""


def digest(image):
    content = b"".join(one.kind.encode() + one.mask.tobytes() for one in image.objects)
    return hashlib.sha256(image.pixels.tobytes() + content).hexdigest()


def test_images_are_the_same_in_every_process():
    here = hashlib.sha256()
    for number in (4, 5):
        for image in (corpus_image(9, number), scene_image(9, number)):
            here.update(image.pixels.tobytes())
            for one in image.objects:
                here.update(one.kind.encode() + one.mask.tobytes())
    command = [sys.executable, "-c", DIGEST.format(numbers=(4, 5))]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == here.hexdigest()


@pytest.mark.parametrize("make", [corpus_image, scene_image])
def test_images_do_not_depend_on_the_order_in_which_they_are_made(make):
    forward = [digest(make(3, number)) for number in range(8)]
    backward = [digest(make(3, number)) for number in reversed(range(8))]
    assert forward == backward[::-1]
    assert len(set(forward)) == 8
    assert digest(make(4, 0)) != forward[0]


def test_only_the_given_kinds_occur():
    some = ("cup", "fish")
    kinds = {one.kind for at in range(30) for one in scene_image(1, at, some).objects}
    assert kinds == set(some)


def test_unknown_kinds_and_empty_lists_are_refused():
    with pytest.raises(ValueError, match="unicorn"):
        corpus_image(1, 1, ("unicorn",))
    with pytest.raises(ValueError, match="must not be empty"):
        scene_image(1, 1, ())
    with pytest.raises(ValueError, match="must differ"):
        scene_image(1, 1, ("cup", "cup"))
    with pytest.raises(ValueError, match="negative"):
        scene_image(1, -1)


@pytest.mark.parametrize("sample", ["corpus_sample", "scene_sample"])
def test_masks_are_exact_and_disjoint(sample, request):
    for image in request.getfixturevalue(sample):
        assert image.pixels.dtype == np.uint8
        height, width, channels = image.pixels.shape
        assert channels == 3
        assert 96 <= min(height, width) <= max(height, width) <= 160
        for one in image.objects:
            assert one.mask.shape == (height, width)
            assert one.mask.dtype == np.bool_
            assert one.mask.sum() >= 60
            assert 0.3 <= one.visible <= 1
            assert one.colour in COLOURS
            assert one.texture in TEXTURES
        assert image.background in GROUNDS
        if image.objects:
            assert np.sum([one.mask for one in image.objects], axis=0).max() == 1


def test_most_corpus_images_show_one_object_of_a_fifth_to_three_fifths(corpus_sample):
    counts = Counter(len(image.objects) for image in corpus_sample)
    assert counts.keys() == {0, 1, 2, 3}
    assert 0.72 <= counts[1] / len(corpus_sample) <= 0.88
    assert 0.03 <= counts[0] / len(corpus_sample) <= 0.12
    lone = [image for image in corpus_sample if len(image.objects) == 1]
    for image in lone:
        (one,) = image.objects
        assert 0.2 <= one.size <= 0.6
        if one.visible == 1:
            rows, columns = one.mask.any(axis=1).nonzero()[0], one.mask.any(axis=0).nonzero()[0]
            longer = max(np.ptp(rows), np.ptp(columns)) + 1
            # Sharp tips cover less than half of their last pixels.
            share = longer / (one.size * min(one.mask.shape))
            assert 0.82 < share < 1.06
    assert np.std([image.objects[0].size for image in lone]) > 0.06
    assert any(image.objects[0].visible < 0.98 for image in lone)


def test_scenes_show_two_to_six_objects_and_overlaps(scene_sample):
    counts = Counter(len(image.objects) for image in scene_sample)
    assert counts.keys() == {2, 3, 4, 5, 6}
    shares = [one.visible for image in scene_sample for one in image.objects]
    assert 0.1 < np.mean(np.array(shares) < 0.95) < 0.6
    sizes = [one.size for image in scene_sample for one in image.objects]
    assert max(sizes) / min(sizes) > 2


def test_all_kinds_are_about_equally_frequent(corpus_sample, scene_sample):
    objects = [one for image in [*corpus_sample, *scene_sample] for one in image.objects]
    counts = Counter(one.kind for one in objects)
    assert counts.keys() == set(KINDS)
    expected = len(objects) / len(KINDS)
    assert all(0.55 * expected < count < 1.5 * expected for count in counts.values())
    assert {one.colour for one in objects} == set(COLOURS)
    assert {one.texture for one in objects} == set(TEXTURES)


@pytest.mark.parametrize("sample", ["corpus_sample", "scene_sample"])
def test_objects_stand_out_from_their_surroundings(sample, request):
    """Most pixels differ visibly from the ring around the object (CIE76 of 15)."""
    shares = []
    for image in request.getfixturevalue(sample):
        lab = lab_from_rgb(image.pixels / 255)
        taken = np.any([one.mask for one in image.objects] or [np.zeros(lab.shape[:2])], axis=0)
        for one in image.objects:
            near, far = (binary_dilation(one.mask, iterations=steps) for steps in (2, 6))
            ring = far & ~near & ~taken
            if ring.sum() >= 20:
                apart = np.linalg.norm(lab[one.mask] - lab[ring].mean(axis=0), axis=1)
                shares.append(np.mean(apart > 15))
    assert np.quantile(shares, 0.05) > 0.9
    assert np.quantile(shares, 0.01) > 0.6
    assert np.median(shares) > 0.97
