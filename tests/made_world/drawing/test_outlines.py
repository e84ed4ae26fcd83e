"""Polygons: curves go through their points, ribbons have their width, corners are cut."""

from __future__ import annotations

import numpy as np
import pytest

from made_world.drawing import outlines


def area(points):
    x, y = points[:, 0], points[:, 1]
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_curves_go_through_their_points():
    points = [(0.0, 0.0), (1.0, 2.0), (3.0, 1.0)]
    path = outlines.curve(points, 4)
    for point in points:
        assert np.linalg.norm(path - point, axis=1).min() == pytest.approx(0, abs=1e-12)
    assert len(outlines.smooth(points, 4)) == 12


def test_a_ribbon_has_its_width():
    flat = outlines.ribbon([(0, 0), (2, 0)], 0.5, round_ends=False)
    assert area(flat) == pytest.approx(1.0)
    assert np.ptp(flat, axis=0) == pytest.approx([2, 0.5])
    tapered = outlines.ribbon([(0, 0), (2, 0)], (0.5, 0.1), round_ends=False)
    assert area(tapered) == pytest.approx(0.6)
    assert np.ptp(outlines.ribbon([(0, 0), (2, 0)], 0.5), axis=0)[0] > 2.4


def test_softened_corners_lie_inside_and_ellipses_have_their_area():
    square = outlines.box(-1, -1, 1, 1)
    soft = outlines.softened(square, 0.2)
    assert np.abs(soft).max() <= 1
    assert 3.2 < area(soft) < 4
    assert area(outlines.ellipse(3, 4, 2, 1)) == pytest.approx(2 * np.pi, rel=0.01)


def test_profiles_are_mirrored_and_turns_are_clockwise_as_seen():
    whole = outlines.both_sides([(0, -1), (1, 0), (0.5, 1)])
    assert area(whole) == pytest.approx(2 * (0.5 + 0.75))
    assert outlines.turned(outlines.outline((1, 0)), 90) == pytest.approx(np.array([[0, 1]]))
