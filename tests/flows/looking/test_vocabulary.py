"""`zutis vocabulary check`: names, prompts and rivals, before a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors.exceptions import VocabularyError
from tests.support.networks.fakes import FakeClip
from tests.support.runs.builds import CLIP
from tests.support.runs.command_line import said

VOCABULARY = """
categories:
- name: red
  synonyms: [reds, "[bold]crimson[/]"]
  id: 7
- name: green
  prompts: ["a photo of grass"]
  not: [blue]
- name: Red light
  synonyms: [green]
"""


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "colours.yaml"
    path.write_text(VOCABULARY)
    return path


def test_categories_and_confusing_names_are_shown(vocabulary: Path) -> None:
    output = said("vocabulary", "check", vocabulary, "--rivals", "0")
    assert "colours: 3 categories" in output
    assert "[bold]crimson[/]" in output
    assert "2 categories have the 85 prompts of the papers, 1 their own." in output
    assert "'green' stands for the categories 'green' and 'Red light'" in output
    assert "The category 'red' has one name twice: 'red' and 'reds'." in output


def test_rivals_are_shown_by_their_cosine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_clip: FakeClip
) -> None:
    monkeypatch.setattr("tasks.stage.models.load_clip_model", lambda _: fake_clip)
    path = tmp_path / "v.txt"
    path.write_text("red\ngreen\nblue\n")
    output = said("vocabulary", "check", path, "--rivals", "2", "--clip", CLIP)
    assert "Rivals: the most alike texts" in output
    assert output.count("0.") >= 2
    assert "Untrained weights" in output


def test_a_vocabulary_that_no_build_would_take_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("red\nRed\n")
    with pytest.raises(VocabularyError, match="Red"):
        said("vocabulary", "check", path)
