"""Line charts as inline SVG, for pages that have to stand alone.

A chart is drawn in `currentColor` and dashes, so it can be read without any style sheet. A page
colours it with the classes `chart`, `grid`, `axis`, `muted` and `series-1` to `series-6`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

Point = tuple[float, float]

COLOURS: Final = 6
_WIDTH, _HEIGHT = 440, 272
_BOTTOM = 42
_FONT = 12.0
# The text's width is known only to the browser; digits and small letters are about this wide.
_LETTER = 0.6 * _FONT
_ROW = 20
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 4")
# More marks than these run into each other, and the line alone says as much.
_MOST_MARKS = 24
_BUCKETS = 240


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line.

    Attributes:
        name: what the legend calls it.
        points: (x, y) in the order in which the line joins them. Where one is not finite, the
            line has a gap.
    """

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A chart of one or more series over the same axes."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """One direction: values `low` to `high` lie at the image's places `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(curve: Curve) -> str:
    """The chart as one `<svg>` element, all its text escaped.

    It has a `<title>` and, as its `<desc>`, where each series starts and ends. Series of
    thousands of points are thinned to what can be seen: extremes stay. Values that are not
    finite are left out.
    """
    points = [point for series in curve.series for point in series.points if _finite(point)]
    legend = list(_legend(curve.series))
    rows = 1 + max((row for row, *_ in legend), default=-1)
    parts = [_opening(curve)]
    if points:
        x, y = _axes(points, top=rows * _ROW + 10.0)
        parts += [*_grid(x, y, curve.x_label, curve.y_label), *_legend_marks(legend)]
        for number, series in enumerate(curve.series):
            parts += _drawn(number, series.points, x, y)
    else:
        parts.append(_text(_WIDTH / 2, _HEIGHT / 2, "no values", anchor="middle", kind="muted"))
    return "\n".join([*parts, "</svg>"])


def round_ticks(low: float, high: float, about: int = 5) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten that reach around [low, high].

    The first is at most `low`, the last at least `high`; there are some `about` of them.

    Raises:
        ValueError: `low` is not below `high`, or one is not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"round_ticks needs a finite low below high, not {low} and {high}.")
    step = _round_step((high - low) / about)
    # Without the allowance 0.3 / 0.1 would need a fourth tick.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(float(f"{number * step:.12g}") for number in range(first, last + 1))


def tick_labels(ticks: Sequence[float]) -> tuple[str, ...]:
    """Labels of evenly spaced ticks, with the digits that tell them apart and no more."""
    step = ticks[1] - ticks[0]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    plain = 1e-4 <= step < 1e6
    texts = (f"{tick:,.{digits}f}" if plain else f"{tick:g}" for tick in ticks)
    return tuple(text.replace("-", "\N{MINUS SIGN}") for text in texts)


def thinned(points: Sequence[Point], buckets: int = _BUCKETS) -> list[Point]:
    """At most `2 * buckets` of the points in their order: each stretch's lowest and highest.

    The first and the last point stay; points that are not finite count as gaps and stay only in
    series that are not thinned.
    """
    if len(points) <= 2 * buckets:
        return list(points)
    inner = [number for number in range(1, len(points) - 1) if _finite(points[number])]
    size = max(1, math.ceil(len(inner) / (buckets - 1)))
    kept = {0, len(points) - 1}
    for start in range(0, len(inner), size):
        bucket = inner[start : start + size]
        kept |= {min(bucket, key=lambda n: points[n][1]), max(bucket, key=lambda n: points[n][1])}
    return [points[number] for number in sorted(kept)]


def _finite(point: Point) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _short(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if rough <= factor * power * (1 + 1e-9))


def _reach(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest value, kept apart where they are one."""
    low, high = min(values), max(values)
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    room = 0.1 * abs(low) or 1.0
    return low - room, high + room


def _axes(points: Sequence[Point], top: float) -> tuple[_Axis, _Axis]:
    """The x axis ends where the values end; the y axis at round values, and at 0 if it is near."""
    low, high = _reach([y for _, y in points])
    if 0 < low < 0.4 * high:
        low = 0.0
    ticks = round_ticks(low, high)
    labels = tick_labels(ticks)
    bottom = float(_HEIGHT - _BOTTOM)
    y = _Axis(low=ticks[0], high=ticks[-1], start=bottom, end=top, ticks=ticks, labels=labels)

    left = 32 + _LETTER * max(map(len, labels))
    low, high = _reach([x for x, _ in points])
    ticks = round_ticks(low, high, about=6)
    inside = [number for number, tick in enumerate(ticks) if low <= tick <= high]
    labels = tick_labels(ticks)
    x = _Axis(
        low=low,
        high=high,
        start=left,
        end=_WIDTH - max(10.0, 0.5 * _LETTER * len(labels[-1])),
        ticks=tuple(ticks[number] for number in inside),
        labels=tuple(labels[number] for number in inside),
    )
    return x, y


def _opening(curve: Curve) -> str:
    told = []
    for series in curve.series:
        points = [point for point in series.points if _finite(point)]
        if points:
            (x0, y0), (x1, y1) = points[0], points[-1]
            told.append(
                f"{series.name}: {_short(y0)} at {curve.x_label} {x0:,g}, "
                f"{_short(y1)} at {curve.x_label} {x1:,g}."
            )
        else:
            told.append(f"{series.name}: no values.")
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-size="{_FONT}" fill="currentColor">'
        f"<title>{escape(curve.title)}</title><desc>{escape(' '.join(told))}</desc>"
    )


def _grid(x: _Axis, y: _Axis, x_label: str, y_label: str) -> Iterator[str]:
    for tick, label in zip(y.ticks, y.labels, strict=True):
        at = y.place(tick)
        yield _line("grid", x.start, at, x.end, at, 'stroke-opacity="0.2"')
        yield _text(x.start - 7, at + 4, label, anchor="end")
    for tick, label in zip(x.ticks, x.labels, strict=True):
        at = x.place(tick)
        yield _line("axis", at, y.start, at, y.start + 4)
        yield _text(at, y.start + 17, label, anchor="middle")
    yield _line("axis", x.start, y.start, x.end, y.start)
    middle = (y.start + y.end) / 2
    yield _text((x.start + x.end) / 2, _HEIGHT - 6, x_label, anchor="middle", kind="muted")
    turned = f'transform="rotate(-90 13 {middle:.1f})"'
    yield _text(13, middle, y_label, anchor="middle", kind="muted", more=turned)


def _legend(series: Sequence[Series]) -> Iterator[tuple[int, float, int, str]]:
    """(row, left end, number of the series, text) of each entry; rows break as words do."""
    row, left = 0, 0.0
    for number, one in enumerate(series):
        last = next((y for x, y in reversed(one.points) if _finite((x, y))), None)
        text = one.name if last is None else f"{one.name}, last {_short(last)}"
        width = 32 + _LETTER * len(text) + 16
        if left and left + width > _WIDTH:
            row, left = row + 1, 0.0
        yield row, left, number, text
        left += width


def _legend_marks(legend: Sequence[tuple[int, float, int, str]]) -> Iterator[str]:
    for row, left, number, text in legend:
        at = row * _ROW + 10
        yield f'<path {_stroke(number)} d="M{left + 2:.1f},{at}h24"/>'
        yield _text(left + 32, at + 4, text)


def _drawn(number: int, points: Sequence[Point], x: _Axis, y: _Axis) -> Iterator[str]:
    """A series as a line, with marks where there are few points."""
    path, pen = [], "M"
    for point in thinned(points):
        if _finite(point):
            path.append(f"{pen}{x.place(point[0]):.1f},{y.place(point[1]):.1f}")
            pen = "L"
        else:
            pen = "M"
    if path:
        yield f'<path {_stroke(number)} d="{"".join(path)}"/>'
    finite = [point for point in points if _finite(point)]
    for px, py in finite if len(finite) <= _MOST_MARKS else finite[-1:]:
        yield (
            f'<circle class="{_colour(number)}" cx="{x.place(px):.1f}" cy="{y.place(py):.1f}" '
            f'r="2.6" fill="currentColor"/>'
        )


def _colour(number: int) -> str:
    return f"series-{number % COLOURS + 1}"


def _stroke(number: int) -> str:
    """A line's look. Past the last colour the dashes move on, so that no two lines are alike."""
    dash = _DASHES[(number + number // COLOURS) % len(_DASHES)]
    return (
        f'class="{_colour(number)}" fill="none" stroke="currentColor" stroke-width="1.5" '
        'stroke-linejoin="round"' + (f' stroke-dasharray="{dash}"' if dash else "")
    )


def _line(kind: str, x0: float, y0: float, x1: float, y1: float, more: str = "") -> str:
    ends = f'x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"'
    return f'<line class="{kind}" {ends} stroke="currentColor" {more}/>'.replace(" />", "/>")


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", kind: str = "label", more: str = ""
) -> str:
    opening = f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}'
    return f"{opening.rstrip()}>{escape(text)}</text>"
