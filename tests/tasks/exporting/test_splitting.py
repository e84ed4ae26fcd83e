"""Splits: shares in each category, near-duplicates together, the same for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest

from storage.errors.exceptions import ConfigError
from tasks.exporting.splitting import split_images

SHARES = {"train": 0.8, "val": 0.2}


def labels_of(*counts: int) -> dict[str, list[int]]:
    return {
        f"{label}-{number}": [label]
        for label, count in enumerate(counts, start=1)
        for number in range(count)
    }


def test_each_category_has_its_share() -> None:
    labels = labels_of(100, 50, 10)
    splits = split_images(labels, {}, SHARES, 0)
    assert splits.keys() == labels.keys()
    counts = Counter((labels[image][0], split) for image, split in splits.items())
    assert {label: counts[label, "val"] for label in (1, 2, 3)} == {1: 20, 2: 10, 3: 2}


def test_small_categories_make_up_for_each_other() -> None:
    labels = labels_of(*[2] * 20)
    counts = Counter(split_images(labels, {}, SHARES, 0).values())
    assert 6 <= counts["val"] <= 10


def test_near_duplicates_stay_together() -> None:
    labels = labels_of(60, 60)
    groups = {image: f"group-{number // 7}" for number, image in enumerate(sorted(labels))}
    splits = split_images(labels, groups, SHARES, 3)
    of_group: dict[str, set[str]] = {}
    for image, split in splits.items():
        of_group.setdefault(groups[image], set()).add(split)
    assert all(len(found) == 1 for found in of_group.values())
    assert 17 <= Counter(splits.values())["val"] <= 31


def test_the_seed_decides() -> None:
    labels = labels_of(50)
    first = split_images(labels, {}, SHARES, 0)
    assert first == split_images(dict(reversed(labels.items())), {}, SHARES, 0)
    assert first != split_images(labels, {}, SHARES, 1)


def test_images_of_several_categories_and_of_none() -> None:
    labels = labels_of(20) | {"both": [1, 2], "none": []}
    assert split_images(labels, {}, SHARES, 0).keys() == labels.keys()


def test_a_split_without_an_image_is_an_error() -> None:
    with pytest.raises(ConfigError, match="The split val would have no image"):
        split_images(labels_of(1), {}, SHARES, 0)
