"""What people are told of the evidence."""

from __future__ import annotations

from typing import Any

from tasks.categories.evidence_notes import competing_pairs, senses_note, thin_note


def row(number: int, name: str, **changes: Any) -> dict[str, Any]:
    usual = {"category_id": number, "category": name, "images": 3, "best": images("a.jpg", "b.jpg"),
             "other_sense": [], "rivals": []}  # fmt: skip
    return usual | changes


def images(*names: str) -> list[dict[str, Any]]:
    return [{"image_id": name, "uri": f"/somewhere/private/{name}", "score": 0.3} for name in names]


def rival(number: int, name: str, shared: float) -> dict[str, Any]:
    return {"category_id": number, "category": name, "similarity": 0.8, "shared": shared}


def test_a_thin_category_is_told_with_its_images_and_rivals() -> None:
    rivals = [rival(2, "heron", 0.4), rival(3, "stork", 0.1)]
    note = thin_note(row(1, "crane", rivals=rivals))
    assert note == "crane: about 3 images, the best a.jpg, b.jpg; rivals heron and stork"
    note = thin_note(row(1, "crane", images=0))
    assert note == "crane: none that stands out, the best a.jpg, b.jpg"


def test_two_senses_are_told_by_an_image_of_each() -> None:
    assert senses_note(row(1, "crane")) == ""
    note = senses_note(row(1, "crane", other_sense=images("tower.jpg")))
    assert note == "crane (a.jpg and tower.jpg differ)"


def test_a_pair_that_wants_the_same_images_is_told_once() -> None:
    rows = [
        row(1, "monitor", rivals=[rival(2, "screen", 0.7), rival(3, "cat", 0.0)]),
        row(2, "screen", rivals=[rival(1, "monitor", 0.9)]),
        row(3, "cat", rivals=[rival(1, "monitor", 0.0)]),
    ]
    assert competing_pairs(rows) == ["monitor and screen (70%)"]
    assert competing_pairs([one | {"images": None} for one in rows]) == []
