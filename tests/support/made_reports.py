"""What a page on a build says, made up: with any text in every place, or nothing."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import Any

from PIL import Image

from flows.builds.settings_used import StageSettings
from flows.reports.charts import Curve, Series
from flows.reports.gathered import Report
from flows.reports.parts import (
    CategoryGallery,
    CategoryRow,
    Gallery,
    Note,
    ScoreTable,
    Step,
    Thumbnail,
)


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
                notes=(text,), precision=text,
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


def empty_report() -> Report:
    kinds: dict[str, Any] = {"str": "", "int": 0, "bool": False, "Gallery | None": None}
    return Report(**{field.name: kinds.get(str(field.type), ()) for field in fields(Report)})
