"""Cutouts: exact areas, sizes, holes, layers and the outline."""

from __future__ import annotations

import numpy as np
import pytest

from made_world.drawing.cutouts import Pose, cut_out
from made_world.drawing.outlines import box, ellipse
from made_world.drawing.parts import detail, part

DISC = [part("main", ellipse(0, 0, 1))]


def pose(angle=0.0, flipped=False, stretch=1.0, side=60.0, line=0.0):
    return Pose(angle=angle, flipped=flipped, stretch=stretch, side=side, line=line)


def extent(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def test_the_area_is_that_of_the_shape():
    cutout = cut_out(DISC, pose())
    assert cutout.coverage.sum() == pytest.approx(np.pi * 30**2, rel=0.012)
    assert cutout.mask.sum() == pytest.approx(np.pi * 30**2, rel=0.012)
    assert cutout.coverage.dtype == np.float32
    assert 0 <= cutout.coverage.min() <= cutout.coverage.max() <= 1


@pytest.mark.parametrize("angle", [0, 30, 90, -145])
def test_the_longer_side_after_turning_is_as_configured(angle):
    bar = [part("main", box(-1, -0.2, 1, 0.2))]
    assert max(extent(cut_out(bar, pose(angle=angle)).mask)) == pytest.approx(60, abs=1)
    with_line = cut_out(bar, pose(angle=angle, line=2)).mask
    assert max(extent(with_line)) == pytest.approx(60, abs=2)


def test_turning_is_clockwise_as_seen_and_flipping_mirrors():
    corner = [part("main", box(0, -0.1, 1, 0.1), box(0, -0.1, 0.2, 1))]
    upright = cut_out(corner, pose()).mask
    turned = cut_out(corner, pose(angle=90)).mask
    assert np.mean(np.rot90(upright, -1) == turned) > 0.97
    flipped = cut_out(corner, pose(flipped=True)).mask
    assert np.mean(upright[:, ::-1] == flipped) > 0.97


def test_holes_are_open_and_details_stay_within():
    ring = [part("main", ellipse(0, 0, 1), holes=(ellipse(0, 0, 0.5),))]
    cutout = cut_out([*ring, detail("second", box(-2, -0.1, 2, 0.1))], pose())
    assert cutout.coverage[32, 32] == 0
    (_, body), (role, band) = cutout.layers
    assert role == "second"
    assert (band <= body + 1e-6).all()
    assert 0 < band.sum() < body.sum()


def test_an_outline_is_part_of_the_object_and_not_inside_joined_shapes():
    two = [part("main", box(-1, -0.3, 0.2, 0.3), box(-0.2, -0.3, 1, 0.3))]
    cutout = cut_out(two, pose(line=2))
    assert cutout.lines is not None
    assert (cutout.lines <= cutout.coverage + 1e-6).all()
    middle = cutout.coverage.shape[0] // 2, cutout.coverage.shape[1] // 2
    assert cutout.lines[middle[0], middle[1] - 8 : middle[1] + 8].max() == 0
    assert cut_out(two, pose()).lines is None


def test_own_coordinates_turn_with_the_object():
    bar = [part("main", box(-1, -0.2, 1, 0.2))]
    cutout = cut_out(bar, pose(angle=90))
    along = cutout.across[cutout.mask]
    assert along.min() == pytest.approx(-1, abs=0.05)
    assert along.max() == pytest.approx(1, abs=0.05)
    assert np.abs(cutout.down[cutout.mask]).max() < 0.25
