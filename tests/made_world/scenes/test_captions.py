"""Captions name all objects in varied words, and no others."""

from __future__ import annotations

import re

import pytest

from made_world.scenes.captions import caption, plural
from made_world.things.kinds import KINDS


def kinds_named(text):
    """Kinds in a caption, by their singular; longer names first so that none is part of another."""
    return {kind for kind in KINDS if re.search(rf"\b({kind}|{plural(kind)})\b", text)}


@pytest.mark.parametrize("sample", ["corpus_sample", "scene_sample"])
def test_every_object_is_named_and_no_other(sample, request):
    for number, image in enumerate(request.getfixturevalue(sample)):
        text = caption(image, 5, number)
        assert kinds_named(text) == {one.kind for one in image.objects}, text


def test_captions_of_empty_images_name_the_texture(corpus_sample):
    empty = [image for image in corpus_sample if not image.objects]
    texts = {caption(image, 5, number) for number, image in enumerate(empty)}
    assert len(texts) > 0.8 * len(empty)
    assert all(len(text) > 5 for text in texts)


def test_the_wording_varies_with_the_number_and_repeats_with_the_same(corpus_sample):
    image = next(each for each in corpus_sample if len(each.objects) == 1)
    texts = [caption(image, 5, number) for number in range(100)]
    assert len(set(texts)) > 40
    assert texts == [caption(image, 5, number) for number in range(100)]
    assert texts != [caption(image, 6, number) for number in range(100)]
    colour = image.objects[0].colour
    assert 25 < sum(colour in text for text in texts) < 90


def test_counts_and_articles_are_right(corpus_sample, scene_sample):
    texts = [
        caption(image, 8, number) for number, image in enumerate([*corpus_sample, *scene_sample])
    ]
    assert not any(re.search(r"\ba [aeiou]", text) for text in texts)
    assert not any(re.search(r"\ban [^aeiou]", text) for text in texts)
    assert not any("  " in text or text != text.strip() for text in texts)
    assert any(re.search(r"\btwo \w", text) for text in texts)
    assert sum(len(text) for text in texts) / len(texts) < 90


def test_relative_positions_in_captions_are_right(corpus_sample, scene_sample):
    seen = 0
    for number, image in enumerate([*corpus_sample, *scene_sample]):
        text = caption(image, 5, number)
        if len(image.objects) != 2 or " above " not in text:
            continue
        seen += 1
        heights = {one.kind: one.mask.nonzero()[0].mean() for one in image.objects}
        first, second = sorted(heights, key=text.index)
        assert heights[first] < heights[second], text
    assert seen >= 2
