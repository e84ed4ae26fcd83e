"""The demonstration's report: one HTML page that needs no other file, script or font.

The template is `templates/demo.html` beside this module; images are embedded as data URIs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from string import ascii_uppercase
from typing import Final

import jinja2

from flows.reports.charts import Curve, Series, line_chart
from flows.summaries.data_uris import data_uri
from tasks.packing.mask_sheet import MASK_COLOUR, TRUTH_COLOUR

__all__ = [
    "CategoryGallery",
    "Curve",
    "Figure",
    "Page",
    "Scene",
    "ScenePanel",
    "SceneSheet",
    "ScoreTable",
    "Series",
    "Thumbnail",
    "goals_in_words",
    "render_page",
]

# The page's parts in their order: field of `Page`, heading.
_SECTIONS: Final = {
    "systems": "Systems",
    "figures": "Results",
    "tables": "Scores",
    "galleries": "Pseudo-labels by category",
    "worst": "Worst cases",
    "scenes": "The same scenes, side by side",
    "curves": "Curves",
    "commands": "Commands",
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the headline table.

    Attributes:
        baseline: value and name of the baseline; empty if there is none.
        reached: whether the value reaches the goal; None where this run has no goal for it.
        command: the command line that reproduces the figure.
        note: small print below the name.
    """

    name: str
    value: str
    baseline: str
    goal: str
    reached: bool | None
    command: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """A table whose first column is text and whose others are numbers, aligned right.

    Attributes:
        command: the command line that reproduces it.

    Raises:
        ValueError: the number of a row's cells differs from the number of columns.
    """

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    command: str

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"A row of {self.title!r} has {len(row)} cells "
                    f"for {len(self.columns)} columns: {row}."
                )


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A small image with its mask drawn on it.

    Attributes:
        image: a PNG or JPEG file.
        caption: short words below it.
        right: False for an image that does not show the category; the page marks it.
    """

    image: bytes
    caption: str
    right: bool


@dataclass(frozen=True, kw_only=True)
class CategoryGallery:
    """A category's images."""

    name: str
    note: str
    thumbnails: tuple[Thumbnail, ...]


@dataclass(frozen=True, kw_only=True)
class ScenePanel:
    """A view of a scene.

    Attributes:
        label: the view's name, such as that of a model.
        image: a PNG or JPEG file.
        alt: a description of the image.
    """

    label: str
    image: bytes
    alt: str


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One image in several views, side by side."""

    title: str
    panels: tuple[ScenePanel, ...]


@dataclass(frozen=True, kw_only=True)
class SceneSheet:
    """Scenes one below the other.

    Attributes:
        note: what is drawn, and how the scenes were chosen.
        command: the command line that reproduces the predictions.
    """

    note: str
    command: str
    scenes: tuple[Scene, ...]

    def __bool__(self) -> bool:
        return bool(self.scenes)


@dataclass(frozen=True, kw_only=True)
class Page:
    """The content of the page. Empty parts get no heading.

    Attributes:
        lead: one paragraph below the title.
        facts: (label, value) pairs: corpus size, wall time, machine and the like.
        systems: the table that comes first; None: no table.
        again: the command line that reproduces the images and their captions.
        commands: (what it does, command line) pairs.

    All command lines run in the page's folder.
    """

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    systems: ScoreTable | None
    figures: tuple[Figure, ...]
    tables: tuple[ScoreTable, ...]
    galleries: tuple[CategoryGallery, ...]
    worst: tuple[Thumbnail, ...]
    curves: tuple[Curve, ...]
    scenes: SceneSheet
    again: str
    commands: tuple[tuple[str, str], ...]


def render_page(page: Page) -> str:
    """The page as HTML, to be written as UTF-8. Every text is escaped.

    Raises:
        ValueError: an image is neither a PNG nor a JPEG file.
    """
    template = _templates().get_template("demo.html")
    return template.render(
        page=page,
        shown={field: title for field, title in _SECTIONS.items() if getattr(page, field)},
        goals=goals_in_words(page.figures),
        letters=letters(page),
        found_colour=_css(MASK_COLOUR),
        true_colour=_css(TRUTH_COLOUR),
        anchors={
            field: _anchors(field, [part.title for part in getattr(page, field)])
            for field in ("tables", "curves")
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


def letters(page: Page) -> dict[str, str]:
    """A letter for each command line that reproduces figures, in the order of the page."""
    lines = [page.systems.command] if page.systems else []
    lines += [figure.command for figure in page.figures]
    lines += [table.command for table in page.tables]
    lines += [page.again, page.scenes.command]
    return dict(zip(dict.fromkeys(line for line in lines if line), ascii_uppercase, strict=False))


def _css(colour: tuple[int, int, int]) -> str:
    return f"rgb({', '.join(map(str, colour))})"


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flows.demo"),
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
