"""Lists within sentences."""

from __future__ import annotations

import pytest

from storage.errors.sentences import counted_kinds, listed


@pytest.mark.parametrize(
    ("number", "text"), [(0, ""), (1, "n0"), (2, "n0, n1"), (3, "n0, n1 and 1 more"),
                         (1_234, "n0, n1 and 1,232 more")]
)  # fmt: skip
def test_long_lists_end_with_how_many_more_there_are(number, text):
    assert listed([f"n{i}" for i in range(number)], 2) == text


def test_items_with_commas_get_another_separator():
    assert listed(["a, b", "c"], 1, "; ") == "a, b and 1 more"
    assert listed(["a, b", "c"], 2, "; ") == "a, b; c"


def test_kinds_of_files_are_counted():
    text = counted_kinds({"txt": 1_204, "": 3, "label map": 2})
    assert text == "3 without extension, 2 label map, 1,204 txt"
    assert counted_kinds({}) == ""
