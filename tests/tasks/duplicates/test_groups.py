"""The table of groups, from matches and from a file's names."""

from __future__ import annotations

from tasks.duplicates.confirming import Match
from tasks.duplicates.groups import found_groups, named_groups


def match(first: int, second: int, distance: float, way: str = "encoded") -> Match:
    return Match(first, second, 1 - distance, distance, way)


def test_matches_connect_groups_named_by_their_smallest_image() -> None:
    matches = [match(3, 1, 0.02), match(1, 4, 0.01, "mirrored"), match(0, 5, 0.0)]
    rows = found_groups(["f", "b", "x", "a", "d", "e"], matches).to_pylist()
    assert [(row["group"], row["image_id"]) for row in rows] == [
        ("a", "a"), ("a", "b"), ("a", "d"), ("e", "e"), ("e", "f"),
    ]  # fmt: skip


def test_a_row_tells_of_the_closest_match() -> None:
    matches = [match(0, 1, 0.03), match(1, 2, 0.01, "mirrored"), match(0, 3, 0.03)]
    rows = {row["image_id"]: row for row in found_groups(list("abcd"), matches).to_pylist()}
    assert rows["b"]["matches"] == "c"
    assert rows["b"]["way"] == "mirrored"
    assert rows["a"]["matches"] == "b"  # of two that are as close, the smaller


def test_no_matches_make_an_empty_table() -> None:
    assert found_groups(["a", "b"], []).num_rows == 0


def test_a_file_names_groups_of_more_than_one_image() -> None:
    rows = named_groups({"c": "x", "a": "x", "b": "y"}).to_pylist()
    assert [(row["image_id"], row["group"]) for row in rows] == [("a", "a"), ("c", "a")]
    assert all(row["similarity"] is None and row["distance"] is None for row in rows)
    assert all(row["matches"] == row["way"] == "" for row in rows)
