"""YAML from users, and malicious YAML."""

from __future__ import annotations

import pytest
import yaml

from storage.files.yaml_files import compose_plain_yaml, load_plain_yaml


def nested_merges(depth: int) -> str:
    """Some hundred bytes whose merges would double `depth` times."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, depth)]
    return "\n".join(lines)


def test_plain_values_are_unchanged() -> None:
    text = "name: &here birds\ncategories: [owl, {name: kite, prompts: ['a {}']}]\nn: [1, 0.5, yes]"
    assert load_plain_yaml(text) == yaml.safe_load(text)
    node = compose_plain_yaml(text)
    assert node is not None
    assert node.start_mark.line == 0
    assert load_plain_yaml("") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (nested_merges(40), r"the alias \*a0 is not read"),
        ("a: &a [*a]", r"the alias \*a is not read"),
        ("[" * 2_000, "nested too deeply"),
        ("n: " + "9" * 5_000, "integer string conversion"),
        ("day: 2026-13-40", "month must be in"),
        ("a: [", "expected the node content"),
        ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_impossible_values_are_one_kind_of_error(text: str, says: str) -> None:
    with pytest.raises(yaml.YAMLError, match=says):
        load_plain_yaml(text)
