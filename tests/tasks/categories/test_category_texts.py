"""Checked categories and their text embeddings."""

from __future__ import annotations

import pytest
import torch

from storage.errors.exceptions import VocabularyError
from storage.vocabularies.vocabulary import Category
from tasks.categories.category_texts import as_categories, embed_categories, equal_prompts
from tests.support.networks.fakes import FakeClip


def test_names_and_categories_may_be_mixed_and_a_leading_background_is_dropped():
    owl = Category(name="owl", synonyms=("hooter",))
    assert as_categories(["Background", " red  kite ", owl]) == (Category(name="red kite"), owl)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "0 categories"),
        (["background"], "0 categories"),
        (["cat", " "], "empty"),
        (["cat", "Cat"], "'Cat' is given twice"),
        (["cat", "background"], "only stand first"),
    ],
)
def test_names_that_cannot_be_used(names, message):
    with pytest.raises(VocabularyError, match=message):
        as_categories(names)


def test_rows_are_the_background_then_the_bare_names_of_unit_norm():
    clip = FakeClip()
    rows = embed_categories(clip, as_categories(["red", "blue"]))
    raw = clip.embed_prompts(["background", "red", "blue"])
    torch.testing.assert_close(rows, torch.nn.functional.normalize(raw, dim=-1))


def test_a_category_with_prompts_or_synonyms_is_their_average():
    clip = FakeClip()
    mixed = Category(name="red", synonyms=("blue",))
    asked = Category(name="x", prompts=("some red", "some green", "some green"))
    _, first, second = embed_categories(clip, [mixed, asked])
    torch.testing.assert_close(first, clip.ensemble(clip.embed_prompts(["red", "blue"])))
    expected = clip.ensemble(clip.embed_prompts(["red", "green", "green"]))
    torch.testing.assert_close(second, expected)


def test_truncated_prompts_and_categories_of_equal_text_are_reported(caplog):
    long = Category(name="owl", prompts=("a red b c d e f g h i j tawny owl",))
    embed_categories(FakeClip(), [long, Category(name="red"), Category(name="a red")])
    cut, equal = (record.getMessage() for record in caplog.records)
    assert "'j tawny owl' is cut off" in cut
    assert "the categories 'owl' and 'red' and 'a red' as one text" in equal


def test_categories_with_the_same_prompts_are_found():
    first = Category(name="heart", prompts=("a sign",))
    second = Category(name="star", prompts=("a sign",))
    assert equal_prompts([first, Category(name="kite"), second], ["{}"]) == ("heart", "star")
    assert equal_prompts([first, Category(name="kite")], ["{}"]) == ()


def test_categories_that_were_read_as_two_may_differ_in_case_only() -> None:
    two = (Category(name="cat"), Category(name="Cat"))
    assert as_categories(two) == two
    with pytest.raises(VocabularyError, match="given twice"):
        as_categories(["cat", "Cat"])
