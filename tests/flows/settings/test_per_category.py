"""`--per-category`: a number, `auto`, or `auto` with bounds."""

from __future__ import annotations

from typing import Any

import pytest

from flows.settings.build import BuildSettings
from storage.errors.exceptions import ConfigError


def settings(per_category: Any) -> BuildSettings:
    return BuildSettings(corpus=("x",), vocabulary="coco", per_category=per_category)


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        (7, None, 7), ("7", None, 7),
        ("auto", 1, 500), ("auto:20-300", 20, 300), ("auto:0-9", 0, 9), ("auto:5-5", 5, 5),
    ],
)  # fmt: skip
def test_what_may_be_given(given: int | str, least: int | None, most: int) -> None:
    chosen = settings(given)
    assert (chosen.least_per_category, chosen.most_per_category) == (least, most)


@pytest.mark.parametrize(
    "given",
    ["atuo", "auto:", "auto:20", "auto:300-20", "auto:0-0", "auto:1-99999999999", "-3", "2.5", "",
     0, 2.5, None, True, [3], "auto:1-²", "٣"],
)  # fmt: skip
def test_anything_else_is_refused_in_a_sentence(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"^per_category is .*auto, or auto with bounds"):
        settings(given)
