"""The shipped vocabularies equal the papers' lists exactly."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from storage.vocabularies.vocabulary import load_vocabulary

_SHIPPED = Path(__file__).parents[3] / "vocabularies"
_DATA = Path(os.environ.get("ZUTIS_TEST_DATA", "../shared/data"))

# Name: number of categories, sha256 of the names joined by line feeds.
_PINNED = {
    "voc2012": (20, "ae17fbef2d3995dba0ae1ba1d6c08ec3e5094886230913f0b4a2cef78f97bf1f"),
    "coco": (80, "d7654b26101572841ed1cd80aa03aa60e35f1b8acb4aea6906c4066886f16e07"),
    "coca": (80, "9fa5d062a9cda86f9371d3a8e9d92708f1c66cafb7b8564c272b035c4c92316e"),
    "imagenet-s50": (50, "ad00ae073f9f46c73d79d3d6425d06ffca6e54d4b317826bdcaf81f6f9a0aefd"),
    "imagenet-s300": (300, "58c76d8b0e1136893a050b9465ac88d538c9100c0227116eca9595ca11b878d3"),
    "imagenet-s919": (919, "a42c3f064dadc5fa133e14769c0931acf3689ab3c99d8923647a4af7854cf819"),
    "cub200": (200, "a7bc058a7a945cf89221675f67c827cf0284f29b265ea2fe42c83586e9e0b3e3"),
}


def test_nothing_else_is_shipped():
    assert {path.stem for path in _SHIPPED.glob("*.yaml")} == set(_PINNED)


@pytest.mark.parametrize("name", _PINNED)
def test_count_and_spelling(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the shipped folder must be found from any folder
    vocabulary = load_vocabulary(name)
    joined = "\n".join(vocabulary.names).encode()
    assert (len(vocabulary.names), hashlib.sha256(joined).hexdigest()) == _PINNED[name]
    assert vocabulary.name == name


@pytest.mark.parametrize("name", sorted(set(_PINNED) - {"cub200"}))
def test_equal_to_the_papers_list(name):
    source = _DATA.parent / "vocabularies" / f"{name}.txt"
    if not source.is_file():
        pytest.skip(f"{source} is not there")
    background, *names = source.read_text().splitlines()
    assert background == "background"
    assert load_vocabulary(str(_SHIPPED / f"{name}.yaml")).names == tuple(names)


def test_coco_carries_the_annotation_ids():
    ids = [category.external_id for category in load_vocabulary("coco").categories]
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert ids == [number for number in range(1, 91) if number not in gaps]


def test_coco_ids_agree_with_an_annotation_file():
    file = _DATA / "coco128" / "annotations" / "instances.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    annotated = {entry["id"]: entry["name"] for entry in json.loads(file.read_text())["categories"]}
    ours = {category.external_id: category.name for category in load_vocabulary("coco").categories}
    assert annotated.items() <= ours.items()
