"""Keys: equal for equal computations, different for different ones."""

from __future__ import annotations

import dataclasses
import re

import pytest

from storage.artifacts.fingerprints import Recipe, canonical_json, digest, unless_default

BASE = Recipe(
    stage="embed_images",
    version=1,
    config={"size": 224, "precision": "float32"},
    weights={"clip": "random:0"},
    inputs={"plan": "abc"},
)


@dataclasses.dataclass(frozen=True)
class Settings:
    size: int = 3
    names: tuple[str, ...] = ("é", "b")


def test_order_of_fields_does_not_matter():
    other = dataclasses.replace(BASE, config={"precision": "float32", "size": 224})
    assert other.key(["a"]) == BASE.key(["a"])


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "embed_text"},
        {"version": 2},
        {"config": {"size": 225, "precision": "float32"}},
        {"config": {"size": 224}},
        {"weights": {"clip": "random:1"}},
        {"weights": {}},
        {"inputs": {"plan": "abd"}},
    ],
)
def test_any_changed_field_gives_another_key(change):
    other = dataclasses.replace(BASE, **change)
    assert other.prefix != BASE.prefix
    assert other.key() != BASE.key()


def test_parts_of_a_recipe_share_the_prefix_only():
    keys = {BASE.key([item]) for item in range(100)}
    assert len(keys) == 100
    assert {key.split("-")[0] for key in keys} == {BASE.prefix}
    assert all(re.fullmatch(r"[0-9a-f]{20}-[0-9a-f]{20}", key) for key in keys)
    assert BASE.key_of_digest(digest([7])) == BASE.key([7])


def test_order_of_items_matters():
    assert BASE.key(["a", "b"]) != BASE.key(["b", "a"])


def test_key_is_pinned():
    """The key depends on the recipe only: on no clock, host, path, process or worker. Artifacts
    made on another machine, at another time, are found again."""
    assert BASE.key(["a"]) == "9751858d3ee1817982c2-0eb5b8d6f81bc677da8a"


def test_canonical_json():
    value = {"b": Settings(), "a": [1, 0.5, None, True]}
    assert canonical_json(value) == '{"a":[1,0.5,null,true],"b":{"names":["é","b"],"size":3}}'


@pytest.mark.parametrize("value", [{1, 2}, b"x", Settings, object()])
def test_values_without_a_canonical_text_are_refused(value):
    with pytest.raises(TypeError, match="can't be part of a key"):
        digest({"x": value})


def test_nan_is_refused():
    with pytest.raises(ValueError):
        digest(float("nan"))


def test_a_setting_that_came_later_is_in_the_key_only_where_it_is_used():
    @dataclasses.dataclass(frozen=True)
    class Config:
        size: int
        least: float = 0.0
        roots: tuple[str, ...] = ()

    assert unless_default(Config(1), "least", "roots") == {}
    both = unless_default(Config(1, 0.5, ("a",)), "least", "roots")
    assert both == {"least": 0.5, "roots": ("a",)}
    assert unless_default(Config(1, 0.5), "roots") == {}
