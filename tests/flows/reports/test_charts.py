"""Line charts: round ticks, distinguishable series, and no visible loss by thinning."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from flows.reports.charts import Curve, Series, line_chart, round_ticks, thinned, tick_labels


def chart(*series: Series, **texts: str) -> ElementTree.Element:
    labels = {"title": "Training loss", "x_label": "iteration", "y_label": "loss"} | texts
    return ElementTree.fromstring(line_chart(Curve(series=series, **labels)))


def straight(name: str = "training", count: int = 11, slope: float = 1.0) -> Series:
    return Series(name=name, points=tuple((float(x), slope * x) for x in range(count)))


def words(svg: ElementTree.Element, kind: str | None = None) -> list[str]:
    return [
        text.text or "" for text in svg.iter("text") if kind is None or text.get("class") == kind
    ]


def lines(svg: ElementTree.Element) -> list[str]:
    """Paths of the series, without those of the legend."""
    return [path.get("d", "") for path in svg.iter("path") if "h" not in path.get("d", "")]


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+),([-\d.]+)", path)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (0.0, 0.3, (0.0, 0.1, 0.2, 0.3)),
        (3.0, 2950.0, (0.0, 1000.0, 2000.0, 3000.0)),
        (-1.2, 2.3, (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0)),
        (0.91, 0.934, (0.91, 0.915, 0.92, 0.925, 0.93, 0.935)),
    ],
)
def test_ticks_are_round_and_reach_around_the_values(low, high, expected):
    assert round_ticks(low, high) == expected


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (0.0, math.inf), (math.nan, 1)])
def test_ticks_need_a_finite_range(low, high):
    with pytest.raises(ValueError, match="finite low below high"):
        round_ticks(low, high)


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        ((0.0, 0.2, 0.4), ("0.0", "0.2", "0.4")),
        ((-0.01, 0.0, 0.01), ("\N{MINUS SIGN}0.01", "0.00", "0.01")),
        ((0.0, 20_000.0), ("0", "20,000")),
        ((0.0, 2e-5), ("0", "2e\N{MINUS SIGN}05")),
        ((1e6, 1e6 + 1), ("1,000,000", "1,000,001")),
    ],
)
def test_labels_have_the_digits_that_tell_ticks_apart(ticks, expected):
    assert tick_labels(ticks) == expected


def test_a_line_goes_from_the_lower_left_to_the_upper_right_of_the_axes():
    svg = chart(straight())
    (path,) = lines(svg)
    spots = places(path)
    assert len(spots) == 11
    assert spots == sorted(spots, key=lambda spot: (spot[0], -spot[1]))
    grid = [float(line.get("y1", "")) for line in svg.iter("line") if line.get("class") == "grid"]
    assert (spots[0][1], spots[-1][1]) == (max(grid), min(grid))
    middle = spots[5]
    assert middle[0] == pytest.approx((spots[0][0] + spots[-1][0]) / 2, abs=0.1)
    assert middle[1] == pytest.approx((spots[0][1] + spots[-1][1]) / 2, abs=0.1)


def test_everything_lies_within_the_picture():
    svg = chart(*(straight(f"series number {n}", slope=1e5 * n) for n in range(1, 9)))
    _, _, width, height = map(float, svg.get("viewBox", "").split())
    for path in lines(svg):
        assert all(0 <= x <= width and 0 <= y <= height for x, y in places(path))
    for text in svg.iter("text"):
        assert 0 <= float(text.get("x", "")) <= width
        assert 0 <= float(text.get("y", "")) <= height


def test_the_axes_and_the_legend_are_labelled():
    svg = chart(straight("training"), straight("held out", slope=0.5))
    assert {"iteration", "loss"} <= set(words(svg, "muted"))
    labels = words(svg, "label")
    assert {"training, last 10", "held out, last 5", "0", "2", "10"} <= set(labels)


def test_title_and_description_tell_what_the_picture_shows():
    svg = chart(straight("training"), Series(name="none", points=()))
    assert svg.get("role") == "img"
    assert svg.findtext("title") == "Training loss"
    told = svg.findtext("desc")
    assert told == "training: 0 at iteration 0, 10 at iteration 10. none: no values."


def test_no_two_series_look_alike_even_without_colours():
    svg = chart(*(straight(f"s{n}", slope=n + 1) for n in range(12)))
    looks = [
        (path.get("class"), path.get("stroke-dasharray"))
        for path in svg.iter("path")
        if "h" not in path.get("d", "")
    ]
    assert len(set(looks)) == 12
    assert len({dash for _, dash in looks[:6]}) == 6


def test_small_positive_values_start_at_0_and_high_ones_do_not():
    def lowest(*values: float) -> str:
        series = Series(name="s", points=tuple(enumerate(values)))
        return words(chart(series, x_label="x"), "label")[0]

    assert lowest(0.2, 2.4) == "0.0"
    assert lowest(0.91, 0.93) == "0.910"


def test_a_line_has_a_gap_where_a_value_is_not_finite():
    points = ((0.0, 1.0), (1.0, 2.0), (2.0, math.nan), (3.0, math.inf), (4.0, 1.0), (5.0, 2.0))
    (path,) = lines(chart(Series(name="s", points=points)))
    assert [step[0] for step in re.findall(r"[ML][^ML]+", path)] == ["M", "L", "M", "L"]


@pytest.mark.parametrize("points", [(), ((0.0, math.nan),)])
def test_a_chart_without_values_says_so(points):
    svg = chart(Series(name="s", points=points))
    assert words(svg) == ["no values"]
    assert not lines(svg)


def test_one_value_is_a_mark():
    svg = chart(Series(name="s", points=((100.0, 0.5),)))
    assert len(list(svg.iter("circle"))) == 1
    assert "0.5" in " ".join(words(svg))


def test_text_is_escaped():
    svg = chart(straight("<b>&"), title="a < b & c", x_label="<x>", y_label='"y"')
    assert svg.findtext("title") == "a < b & c"
    assert {"<x>", '"y"'} <= set(words(svg, "muted"))
    assert "<b>&, last 10" in words(svg)


def test_thinning_keeps_ends_and_extremes_in_their_order():
    points = [(float(n), math.sin(n / 500)) for n in range(20_000)]
    points[7_777] = (7_777.0, 9.0)
    points[12_345] = (12_345.0, -9.0)
    kept = thinned(points, buckets=100)
    assert len(kept) <= 200
    assert kept == sorted(kept)
    assert {points[0], points[-1], points[7_777], points[12_345]} <= set(kept)


def test_few_points_are_all_kept():
    points = [(float(n), float(n % 7)) for n in range(200)]
    assert thinned(points, buckets=100) == points


def test_a_long_training_is_a_small_chart():
    noisy = tuple((float(n), math.sin(n * n)) for n in range(100_000))
    assert len(line_chart(Curve(title="t", x_label="x", y_label="y", series=(Series(
        name="s", points=noisy),)))) < 12_000  # fmt: skip
