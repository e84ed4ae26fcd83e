"""The templates equal the reference's, in the same order."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from storage.vocabularies.prompt_templates import IMAGENET_TEMPLATES, SCENE_TEMPLATES, TEMPLATES


def test_imagenet_templates_are_open_clips():
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    assert tuple(fill("{}") for fill in OPENAI_IMAGENET_TEMPLATES) == IMAGENET_TEMPLATES


def test_85_templates_imagenet_first():
    assert len(TEMPLATES) == len(set(TEMPLATES)) == 85
    assert TEMPLATES[:80] == IMAGENET_TEMPLATES
    assert TEMPLATES[80:] == SCENE_TEMPLATES
    assert SCENE_TEMPLATES[0] == "there is a {} in the scene."
    assert SCENE_TEMPLATES[-1] == "this is one {} in the scene."


def test_every_template_takes_the_name_once():
    assert all(template.count("{}") == 1 for template in TEMPLATES)


def test_templates_of_the_parity_data_are_the_first_three():
    data = Path(os.environ.get("ZUTIS_TEST_DATA", "../shared/data"))
    file = data.parent / "parity" / "text.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    assert tuple(json.loads(file.read_text())["templates"]) == TEMPLATES[:3]
