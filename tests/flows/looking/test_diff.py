"""What differs between two builds: labels, images, categories, settings; and the page on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.builds.comparison import Comparison, compare
from flows.builds.found import build_of
from flows.cli import exit_code_of, run_command_line
from flows.reports.comparison_page import render_comparison
from flows.settings.build import BuildSettings
from flows.settings.options import changed
from tests.support.files.coloured_images import write_corpus
from tests.support.pages import Reader, assert_stands_alone
from tests.support.runs.builds import build_here, write_vocabulary


@pytest.fixture
def other(settings: BuildSettings, corpus: Path, tmp_path: Path) -> BuildSettings:
    """Of a corpus that grew, with other names and another setting."""
    grown = tmp_path / "grown"
    write_corpus(grown, ["red", "green", "blue"], each=6)
    (grown / "blue-000.jpg").unlink()
    names = write_vocabulary(tmp_path / "other.txt", ["red", "green", "blue", "magenta"])
    return changed(
        settings, corpus=(str(grown),), vocabulary=str(names), per_category=6, min_score=0.01
    )


def compared(*several: BuildSettings) -> Comparison:
    first, second = (build_of(build_here(settings).dataset) for settings in several)
    return compare(first, second)


def test_a_build_does_not_differ_from_itself(settings):
    found = compared(settings, settings)
    assert found.labels == found.settings == found.categories == ()
    assert found.counts["unchanged"] == 12
    assert b"Nothing differs" in render_comparison(found)


def test_images_labels_categories_and_settings(settings, other):
    found = compared(settings, other)
    assert len(found.images_came) == 6
    assert len(found.images_gone) == 1
    assert {change.image_id for change in found.labels if change.kind == "gone"} == {
        *found.images_gone
    }
    assert {change.image_id for change in found.labels if change.kind == "came"} == {
        *found.images_came
    }
    assert found.counts["unchanged"] + found.counts["changed"] == 11
    counts = {change.name: (change.before, change.after) for change in found.categories}
    assert counts["magenta"][0] is None
    settings_changed = {(one.stage, one.name): one.after for one in found.settings}
    assert settings_changed["retrieve", "min_score"] == "0.01"
    reader = Reader(render_comparison(found).decode())
    assert_stands_alone(reader)
    assert len(reader.of("img")) == 7 + 2 * found.counts["changed"]


def test_other_masks_are_told_by_their_iou(settings):
    found = compared(settings, changed(settings, refine_input="reference", mask_size=32))
    masks = [change for change in found.labels if "mask" in change.what]
    assert masks
    assert all(change.iou is not None and 0 <= change.iou < 1 for change in masks)
    assert [change.iou for change in masks] == sorted(change.iou or 0 for change in masks)
    assert len(Reader(render_comparison(found).decode()).of("img")) == 2 * len(found.labels)


def test_the_command_prints_json(settings, other, capsys, tmp_path):
    first, second = (build_here(each).dataset.key for each in (settings, other))
    page = tmp_path / "diff.html"
    words = ["diff", first[:16], second[:16], "--store", settings.store, "--page", str(page)]
    run_command_line([*words, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["before"], told["after"]) == (first, second)
    assert len(told["images"]["came"]) == 6
    assert_stands_alone(Reader(page.read_text("utf-8")))
    run_command_line(words)
    assert "Settings that differ" in capsys.readouterr().out


def test_a_build_that_there_is_not(settings, capsys):
    build_here(settings)
    line = ["diff", "abcdef", "latest", "--store", settings.store]
    assert exit_code_of(lambda: run_command_line(line)) == 2
    assert "begins with 'abcdef'" in " ".join(capsys.readouterr().err.split())
