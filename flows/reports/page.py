"""The page on a build: one HTML file that needs no other file, script or font.

The templates are in `templates/` beside this module; images are embedded as data URIs. Every text
is escaped and isolated, and the page forbids the browser to run or load anything.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import jinja2
from markupsafe import Markup, escape

from flows.reports.charts import line_chart
from flows.reports.gathered import Report
from flows.reports.reasons import in_words
from flows.summaries.data_uris import data_uri
from tasks.packing.mask_sheet import MASK_COLOUR, TRUTH_COLOUR

_LONGEST: Final = 160
"""Characters of a name that are shown."""

_OPEN_GALLERIES: Final = 40
"""Up to so many categories have their galleries open from the start."""

_BREAKS: Final = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Kinds of characters that a line of text can't have."""

# The page's parts in their order: what decides whether there is one, heading.
_SECTIONS: Final = {
    "steps": "From the corpus to the shards",
    "categories": "Categories",
    "best": "Best and worst labels",
    "galleries": "Labels by category",
    "conflicts": "Conflicts",
    "thin": "Thin categories",
    "duplicates": "Near-duplicates",
    "rejected": "Left out",
    "settings": "Settings and keys",
    "curves": "Training",
    "tables": "Scores",
    "commands": "Commands",
}


def render_report(report: Report, mark: str = "") -> bytes:
    """The page as UTF-8.

    Args:
        report: its content.
        mark: words for its head that tell what it is of.

    Raises:
        ValueError: an image is neither a PNG nor a JPEG file.
    """
    values = shared_values(report)
    return render("report.html", report=report, mark=mark, with_truth=False, **values)


def render(name: str, room: str = "flows.reports", **values: Any) -> bytes:
    """A template of a room, or of this one, filled."""
    text = _templates(room).get_template(name).render(**values)
    return text.encode("utf-8", "backslashreplace")


def shared_values(report: Report) -> dict[str, Any]:
    """What the template needs besides the report."""
    return {
        "shown": {part: title for part, title in _SECTIONS.items() if getattr(report, part)},
        "anchors": anchors("category", [gallery.name for gallery in report.galleries]),
        "anchor_of": _anchor_of(report),
        "open_galleries": len(report.galleries) <= _OPEN_GALLERIES,
        "longest_step": max((step.count for step in report.steps), default=1) or 1,
        "found_colour": css(MASK_COLOUR),
        "true_colour": css(TRUTH_COLOUR),
    }


def _anchor_of(report: Report) -> Mapping[str, str]:
    names = [gallery.name for gallery in report.galleries]
    return dict(zip(names, anchors("category", names), strict=True))


def anchors(prefix: str, names: Sequence[str]) -> list[str]:
    """An id for each name, readable and used once."""
    found: list[str] = []
    for number, name in enumerate(names, start=1):
        words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST]
        found.append(f"{prefix}-{number}-{words}".rstrip("-"))
    return found


def css(colour: tuple[int, int, int]) -> str:
    """A colour as style sheets have it."""
    return f"rgb({', '.join(map(str, colour))})"


def plain(text: str) -> str:
    """Text as one line: control characters become spaces, and what is too long is cut."""
    line = "".join(" " if unicodedata.category(c) in _BREAKS else c for c in text)
    line = " ".join(line.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def isolated(text: str) -> Markup:
    """A name for the page: one line, escaped, and isolated, so that its direction and marks can't
    reach beyond it."""
    return Markup("<bdi>") + escape(plain(text)) + Markup("</bdi>")


@cache
def _templates(room: str) -> jinja2.Environment:
    """The templates of a room, which may use those of this one."""
    rooms = dict.fromkeys((room, "flows.reports"))
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(each) for each in rooms]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "data_uri": data_uri,
        "line_chart": line_chart,
        "name": isolated,
        "plain": plain,
        "why": in_words,
    }
    return environment
