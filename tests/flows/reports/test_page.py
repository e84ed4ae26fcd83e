"""The page with any text: well-formed, self-contained, and never larger than promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.reports.gathered import Report
from flows.reports.page import anchors, plain, render_report
from flows.reports.thumbnails import Budget
from tests.support.made_reports import empty_report, report_of
from tests.support.pages import HOSTILE, Reader, assert_stands_alone, dom_in_browser


@pytest.mark.parametrize("report", [report_of("cat", "dog"), report_of(*HOSTILE), empty_report()])
def test_it_is_well_formed_and_stands_alone(report):
    reader = Reader(render_report(report).decode())
    assert_stands_alone(reader)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {(link["href"] or "")[1:] for link in reader.of("a")}
    assert targets <= set(ids)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_reaches_beyond_its_place(text):
    def tags(report: Report) -> list[str]:
        return [name for name, _ in Reader(render_report(report).decode()).tags]

    assert tags(report_of(text)) == tags(report_of("cat"))


@pytest.mark.slow
def test_no_name_runs_in_a_browser(tmp_path: Path):
    page = tmp_path / "page.html"
    page.write_bytes(render_report(report_of("safe", *HOSTILE)))
    reader = Reader(dom_in_browser(page, tmp_path / "profile"))
    assert_stands_alone(reader)
    assert reader.inside("title")[0] == "safe: report of a build"  # a chart has one, too
    assert len(reader.of("img")) == len(Reader(page.read_text("utf-8")).of("img"))


def test_names_are_one_line_of_bounded_length():
    assert plain("a\n\tb\x00c") == "a b c"
    assert len(plain("x" * 5000)) < 200


def test_anchors_are_used_once():
    assert len(set(anchors("category", ["a b", "a-b", "A B", "日本", "日本"]))) == 5


def test_a_budget_ends_thumbnails_before_it_is_passed():
    noise = np.random.default_rng(0).integers(0, 256, (20, 144, 144, 3), dtype=np.uint8)
    files = list(Budget(100_000).admit(Image.fromarray(each) for each in noise))
    assert 0 < len(files) < 20
    assert sum(len(file) for file in files) * 4 / 3 < 100_000
