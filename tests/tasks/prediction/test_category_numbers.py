"""Category ids of an annotation file, found by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from storage.errors.exceptions import CorpusError
from tasks.prediction.category_numbers import numbers_by_name


def coco(path: Path, categories: Any) -> str:
    images = [{"id": 1, "file_name": "1.jpg", "name": "zebra"}]
    annotations = [{"id": 5, "image_id": 1, "category_id": 24, "name": "cat"}]
    text = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(text))
    return str(path)


def test_names_have_the_numbers_of_the_file(tmp_path):
    file = coco(tmp_path / "t.json", [{"id": 24, "name": "zebra"}, {"id": 17, "name": "cat"}])
    numbers = numbers_by_name(["Cat", "zebra"], [file])
    assert numbers.ids == (17, 24)
    assert numbers.sentence == f"Category ids are those of {file}."


def test_names_that_the_file_lacks_are_no_category_of_its(tmp_path):
    file = coco(tmp_path / "t.json", [{"id": 24, "name": "zebra"}, {"id": 90, "name": "cat"}])
    numbers = numbers_by_name(["dog", "zebra", "kite"], [file])
    assert numbers.ids == (91, 24, 92)
    assert "which lacks dog, kite" in numbers.sentence


def test_ids_above_are_above_those_that_are_there_twice(tmp_path):
    names = {"zebra": 24, "cat": 90, "lynx": 90}
    rows = [{"id": own_id, "name": name} for name, own_id in names.items()]
    numbers = numbers_by_name(["cat", "zebra", "lynx"], [coco(tmp_path / "t.json", rows)])
    assert numbers.ids == (91, 24, 92)


@pytest.mark.parametrize(
    "categories",
    [
        [],
        None,
        "cat",
        [{"id": 1, "name": "dog"}],
        [{"id": "1", "name": "cat"}, {"id": True, "name": "zebra"}, 7],
        [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}],
        [{"id": 1, "name": "cat"}, {"id": 1, "name": "zebra"}],
    ],
)
def test_without_any_of_them_ids_are_labels(tmp_path, categories):
    numbers = numbers_by_name(["cat", "zebra"], [coco(tmp_path / "t.json", categories)])
    assert numbers.ids == ()
    assert "their ids are 1, 2" in numbers.sentence


def test_files_that_contradict_each_other(tmp_path):
    first = coco(tmp_path / "a.json", [{"id": 24, "name": "zebra"}])
    other = coco(tmp_path / "b.json", [{"id": 25, "name": "zebra"}])
    assert numbers_by_name(["zebra"], [first, first]).ids == (24,)
    assert numbers_by_name(["zebra"], [first, other]).ids == ()


def test_what_is_no_json_is_one_sentence(tmp_path):
    (tmp_path / "t.json").write_text("{")
    with pytest.raises(CorpusError, match="not valid JSON"):
        numbers_by_name(["cat"], [str(tmp_path / "t.json")])
