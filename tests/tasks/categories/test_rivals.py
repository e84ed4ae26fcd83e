"""Rivals within a vocabulary, by texts and by names."""

from __future__ import annotations

import numpy as np
import pytest

from storage.vocabularies.category import Category
from tasks.categories import rivals
from tasks.categories.rivals import Rivals, confusing_names, nearest_texts


def unit(rows: list[list[float]]) -> np.ndarray:
    array = np.array(rows, np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


@pytest.mark.parametrize("at_once", [2, 1_024])
def test_each_category_s_nearest_is_told_once(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(rivals, "_ROWS_AT_ONCE", at_once)
    rows = unit([[1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 1, 1], [0, 0.9, 1]])
    found = nearest_texts(rows)
    assert [(one.first, one.second) for one in found] == [(3, 4), (0, 1), (2, 3)]
    assert found[0] == Rivals(pytest.approx(float(rows[3] @ rows[4])), 3, 4)


def test_one_category_has_no_rival() -> None:
    assert nearest_texts(unit([[1, 0]])) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [("cat", "Cats"), ("hot dog", "hot-dog"), ("hotdog", "hot dog"), ("T shirt", "t_shirts")],
)
def test_names_that_differ_in_spelling_alone_are_told(first: str, second: str) -> None:
    [sentence] = confusing_names([Category(name=first), Category(name=second)])
    assert repr(first) in sentence
    assert repr(second) in sentence


def test_a_synonym_that_is_another_category_is_told() -> None:
    [sentence] = confusing_names(
        [Category(name="sofa", synonyms=("couch",)), Category(name="couch")]
    )
    assert (
        sentence == "'couch' stands for the categories 'sofa' and 'couch': they will want the "
        "same images."
    )


def test_a_category_s_own_name_twice_is_told() -> None:
    [sentence] = confusing_names([Category(name="crane", synonyms=("Cranes",))])
    assert "has one name twice: 'crane' and 'Cranes'" in sentence


@pytest.mark.parametrize(
    "names", [("bus", "bu"), ("glass", "glas"), ("car", "carpet"), ("as", "a")]
)
def test_other_names_are_not(names: tuple[str, ...]) -> None:
    assert confusing_names([Category(name=name) for name in names]) == []
