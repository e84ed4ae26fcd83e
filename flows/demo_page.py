"""The demonstration's report: one HTML page that needs no other file, script or font.

The template is `templates/demo.html` beside this module; pictures are embedded as data URIs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

import jinja2

from flows.data_uris import data_uri
from flows.demo_charts import Curve, Series, line_chart

__all__ = [
    "CategoryGallery",
    "Curve",
    "Figure",
    "GalleryPicture",
    "Page",
    "ScoreTable",
    "Series",
    "Sheet",
    "goals_in_words",
    "render_page",
]

# The page's parts in their order: field of `Page`, heading.
_SECTIONS: Final = {
    "figures": "Results",
    "tables": "Scores",
    "galleries": "Pseudo-labels by category",
    "worst": "Worst cases",
    "curves": "Curves",
    "sheets": "Predictions",
    "commands": "Commands",
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the headline table.

    Attributes:
        reached: whether the value reaches the goal; None where this run has no goal for it.
        note: small print below the name.
    """

    name: str
    value: str
    goal: str
    reached: bool | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """A table whose first column is text and whose others are numbers, aligned right.

    Raises:
        ValueError: a row has not as many cells as there are columns.
    """

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"A row of {self.title!r} has {len(row)} cells "
                    f"for {len(self.columns)} columns: {row}."
                )


@dataclass(frozen=True, kw_only=True)
class GalleryPicture:
    """A small picture with its mask drawn on it.

    Attributes:
        image: a PNG or JPEG file.
        caption: short words below it.
        right: False for a picture that does not show the category; the page marks it.
    """

    image: bytes
    caption: str
    right: bool


@dataclass(frozen=True, kw_only=True)
class CategoryGallery:
    """A category's pictures."""

    name: str
    note: str
    pictures: tuple[GalleryPicture, ...]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A wide picture, say of inputs, truth and predictions; `image` is a PNG or JPEG file."""

    title: str
    note: str
    image: bytes


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that the page shows. Parts that are empty get no heading.

    Attributes:
        lead: one paragraph below the title.
        facts: (label, value) pairs: corpus size, wall time, machine and the like.
        commands: (what it does, the command line to type) pairs.
    """

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    tables: tuple[ScoreTable, ...]
    galleries: tuple[CategoryGallery, ...]
    worst: tuple[GalleryPicture, ...]
    curves: tuple[Curve, ...]
    sheets: tuple[Sheet, ...]
    commands: tuple[tuple[str, str], ...]


def render_page(page: Page) -> str:
    """The page as HTML, to be written as UTF-8. Every text is escaped.

    Raises:
        ValueError: a picture is neither a PNG nor a JPEG file.
    """
    template = _templates().get_template("demo.html")
    return template.render(
        page=page,
        shown={field: title for field, title in _SECTIONS.items() if getattr(page, field)},
        goals=goals_in_words(page.figures),
        anchors={
            field: _anchors(field, [part.title for part in getattr(page, field)])
            for field in ("tables", "curves", "sheets")
        }
        | {"galleries": _anchors("category", [gallery.name for gallery in page.galleries])},
    )


def goals_in_words(figures: tuple[Figure, ...]) -> str:
    """How many of the goals were reached: "7 of 8 goals reached."; empty without goals."""
    goals = [figure for figure in figures if figure.reached is not None]
    if not goals:
        return ""
    reached = sum(figure.reached is True for figure in goals)
    return f"{reached} of {len(goals)} goal{'s' if len(goals) > 1 else ''} reached."


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flows"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"data_uri": data_uri, "line_chart": line_chart}
    return environment


def _anchors(prefix: str, names: list[str]) -> list[str]:
    """An id for each name, readable and used once."""
    anchors: list[str] = []
    for number, name in enumerate(names, start=1):
        words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        anchor = f"{prefix}-{words or number}"
        anchors.append(f"{anchor}-{number}" if anchor in anchors else anchor)
    return anchors
