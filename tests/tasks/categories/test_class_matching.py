"""Matching of categories and classes by name, and by position on request."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from storage.errors.exceptions import ConfigError
from storage.vocabularies.vocabulary import Category
from tasks.categories.class_matching import Classes, in_class_order

OWN = ("person", "traffic light", "dog")


def ordered(names: Sequence[str], classes: Classes = "", own: Sequence[str] = OWN) -> list[str]:
    categories = [Category(name=name) for name in names]
    return [each.name for each in in_class_order(own, categories, classes, "mine")]


@pytest.mark.parametrize("classes", ["", {}])
def test_the_sets_names_are_matched_by_name(classes: Classes) -> None:
    assert ordered(["dog", "person", "traffic light"], classes) == list(OWN)
    assert ordered(["DOG", "Traffic  Light", "person"]) == ["person", "Traffic  Light", "DOG"]


def test_synonyms_are_matched_by_position_only_on_request() -> None:
    words = ["human", "lamp", "hound"]
    assert ordered(words, "in-order") == words
    with pytest.raises(ConfigError, match=r"3 of 3 names .*'human', 'lamp', 'hound'.*in-order"):
        ordered(words)


def test_a_mapping_matches_names_that_differ() -> None:
    assert ordered(["hound", "person", "lamp"], {"Hound": "dog", "lamp": "traffic light"}) == [
        "person", "lamp", "hound"
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"1 of 3 names .*'lamp'.* 'traffic light' are left"):
        ordered(["hound", "person", "lamp"], {"hound": "dog"})


def test_names_that_differ_in_case_only_are_matched_exactly() -> None:
    assert ordered(["Cat", "cat"], own=("cat", "Cat")) == ["cat", "Cat"]


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (["dog", "person", "lamp"], "in-order", "Category 1 is 'dog', which is class 3"),
        (["dog", "person"], "", "2 categories are given and .* has 3"),
        (["dog", "person", "lamp"], {"lamp": "dog"}, "the class 'dog'"),
        (["dog", "person", "lamp"], {"lamb": "traffic light"}, "'lamb', which is not in"),
        (["dog", "person", "lamp"], {"lamp": "light"}, "'lamp' with 'light', which is no class"),
    ],
)
def test_contradictions_are_refused(names: list[str], classes: Classes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ordered(names, classes)
