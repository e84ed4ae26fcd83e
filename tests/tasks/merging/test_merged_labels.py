"""Labels of one image from several data sets: one an object, the better one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from storage.images.masks import run_lengths
from storage.vocabularies.category import Category
from tasks.merging.merged_labels import (
    Label,
    categories_by_name,
    labels_of_sample,
    merged,
    renumbered,
)


def mask(first: int, last: int) -> dict[str, Any]:
    pixels = np.zeros((8, 20), np.bool_)
    pixels[:, first:last] = True
    return run_lengths(pixels)


def label(category: int, columns: tuple[int, int], source: int, **facts: Any) -> Label:
    return Label(category, {"mask": mask(*columns), **facts}, source)


VOCABULARY = (
    Category(name="sofa", synonyms=("couch",)),
    Category(name="couch"),
    Category(name="TV"),
)


def test_a_name_comes_before_another_category_s_synonym() -> None:
    assert categories_by_name(VOCABULARY) == {"sofa": 1, "couch": 2, "tv": 3}


def test_categories_are_found_by_their_names_and_synonyms() -> None:
    own = {
        1: Category(name="tv"),
        2: Category(name="settee", synonyms=("sofa",)),
        3: Category(name="dog"),
    }
    assert renumbered(own, categories_by_name(VOCABULARY)) == {1: 3, 2: 1}


def test_other_objects_stand_beside_one_another() -> None:
    labels = [label(1, (0, 5), 0), label(2, (10, 20), 1)]
    taken, left_out = merged(labels)
    assert [one.category_id for one in taken] == [1, 2]
    assert not left_out


def test_of_one_object_the_label_of_higher_quality_is_kept() -> None:
    worse, better = label(1, (0, 10), 0, quality=0.4), label(2, (0, 11), 1, quality=0.7)
    taken, left_out = merged([worse, better])
    assert taken == [better]
    assert left_out == Counter(conflict=1)


def test_without_a_quality_the_earlier_data_set_wins() -> None:
    first, second = label(1, (0, 10), 0), label(1, (0, 11), 1, quality=0.9)
    taken, left_out = merged([first, second])
    assert taken == [first]
    assert left_out == Counter(labelled_twice=1)


def test_a_sample_with_one_object_has_that() -> None:
    facts = {
        "label": 2, "mask": mask(0, 4), "area": 0.2, "uri": "a.jpg",
        "categories": [{"category_id": 1}, {"category_id": 2, "quality": 0.6, "rank": 3}],
    }  # fmt: skip
    [found], unknown = labels_of_sample(facts, {2: 7}, 1)
    assert found == Label(7, {"category_id": 2, "mask": mask(0, 4), "area": 0.2, "quality": 0.6}, 1)
    assert found.quality == 0.6
    assert unknown == 0


def test_objects_without_a_category_are_none_and_unknown_ones_are_counted() -> None:
    objects = [
        {"category_id": 1, "mask": mask(0, 4)},
        {"category_id": 0, "mask": mask(5, 7)},
        {"category_id": 3, "mask": mask(8, 9)},
    ]
    found, unknown = labels_of_sample({"objects": objects}, {1: 2}, 0)
    assert [one.category_id for one in found] == [2]
    assert unknown == 1
