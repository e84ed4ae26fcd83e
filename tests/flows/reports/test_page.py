"""The page with any text: well-formed, self-contained, and never larger than promised."""

from __future__ import annotations

import io
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.builds.settings_used import StageSettings
from flows.reports.charts import Curve, Series
from flows.reports.gathered import Report
from flows.reports.page import anchors, plain, render_report
from flows.reports.parts import (
    CategoryGallery,
    CategoryRow,
    Gallery,
    Note,
    ScoreTable,
    Step,
    Thumbnail,
)
from flows.reports.thumbnails import Budget
from tests.support.pages import HOSTILE, Reader, assert_stands_alone, dom_in_browser


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), "teal").save(file, "JPEG")
    return file.getvalue()


def thumbnail(text: str) -> Thumbnail:
    return Thumbnail(image=picture(), caption=text, name=text, right=False)


def report_of(*texts: str) -> Report:
    """A page on which each text stands everywhere that a text can."""
    shown = tuple(thumbnail(text) for text in texts)
    notes = tuple(Note(name=text, words=text) for text in texts)
    return Report(
        title=texts[0],
        warning=texts[0],
        facts=tuple((text, text) for text in texts),
        steps=(Step(title="files", count=3, left_out=tuple((text, 1) for text in texts)),),
        categories=tuple(
            CategoryRow(
                category_id=number, name=text, retrieved=2, kept=1, labels=1, quality=0.5,
                notes=(text,),
            )
            for number, text in enumerate(texts)
        ),
        more_categories=1,
        best=shown,
        worst=shown,
        judged=True,
        galleries=tuple(
            CategoryGallery(name=text, note=text, thumbnails=shown[:1]) for text in texts
        ),
        without_gallery=1,
        pairs=notes,
        conflicts=Gallery(title="Closest", note=texts[0], thumbnails=shown),
        thin=notes,
        duplicates=(Gallery(title="Group 1", note="", thumbnails=shown),),
        rejected=(Gallery(title="1 file", code=texts[0], note="", thumbnails=(), names=texts),),
        curves=(
            Curve(
                title=texts[0], x_label=texts[0], y_label=texts[0],
                series=(Series(name=texts[0], points=((0.0, 1.0), (1.0, 0.5))),),
            ),
        ),
        tables=(
            ScoreTable(
                title=texts[0], note=texts[0], columns=("", "x"), rows=((texts[0], "1"),)
            ),
        ),
        settings=(
            StageSettings(
                stage="scan", version=1, settings=tuple((text, text) for text in texts),
                keys=("00",), artifacts=2,
            ),
        ),
        commands=((texts[0], texts[0]),),
    )  # fmt: skip


def empty() -> Report:
    kinds: dict[str, Any] = {"str": "", "int": 0, "bool": False, "Gallery | None": None}
    return Report(**{field.name: kinds.get(str(field.type), ()) for field in fields(Report)})


@pytest.mark.parametrize("report", [report_of("cat", "dog"), report_of(*HOSTILE), empty()])
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
