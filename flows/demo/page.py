"""The demonstration's report: one HTML page that needs no other file, script or font.

The template is `templates/demo.html` beside this module; images are embedded as data URIs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Final

from flows.reports.charts import Curve, Series
from flows.reports.gathered import Report
from flows.reports.page import anchors, css, render, shared_values
from flows.reports.parts import ScoreTable, Thumbnail
from tasks.packing.mask_sheet import MASK_COLOUR, TRUTH_COLOUR

__all__ = [
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
        build: of the page on the build, with the truth of its labels; its other parts are empty.
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
    build: Report | None
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
    of_build = shared_values(page.build) if page.build else {}
    shown = {field: title for field, title in _SECTIONS.items() if getattr(page, field)}
    text = render(
        "demo.html",
        "flows.demo",
        page=page,
        shown=shown,
        of_build=of_build,
        contents=_contents(shown, of_build.get("shown", {})),
        goals=goals_in_words(page.figures),
        letters=letters(page),
        found_colour=css(MASK_COLOUR),
        true_colour=css(TRUTH_COLOUR),
        anchors={
            field: anchors(field, [part.title for part in getattr(page, field)])
            for field in ("tables", "curves")
        },
    )
    return text.decode("utf-8")


def _contents(shown: Mapping[str, str], of_build: Mapping[str, str]) -> dict[str, str]:
    """The headings of all parts in their order: those on the build come after the scores."""
    before = {field: shown[field] for field in ("systems", "figures", "tables") if field in shown}
    return {**before, **of_build, **shown}


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
