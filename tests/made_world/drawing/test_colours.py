"""Colour conversion, the ranges of colour names, and contrasting palettes."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2lab

from made_world.drawing.colours import (
    BACKGROUND_COLOURS,
    COLOURS,
    difference,
    lab_from_rgb,
    muted_colour,
    named_colour,
    palette,
    rgb_from_lab,
)
from made_world.drawing.parts import ROLES
from made_world.drawing.rng import Rng


def test_conversion_agrees_with_scikit_image():
    rgb = np.random.default_rng(3).random((50, 3))
    assert lab_from_rgb(rgb) == pytest.approx(rgb2lab(rgb), abs=0.02)
    assert rgb_from_lab(lab_from_rgb(rgb)) == pytest.approx(rgb, abs=1e-3)


def test_colours_fit_their_names():
    rng = Rng(1)
    red, green, blue = (rgb_from_lab(named_colour(rng, name)) for name in ("red", "green", "blue"))
    assert red.argmax() == 0
    assert green.argmax() == 1
    assert blue.argmax() == 2
    for name in COLOURS:
        samples = np.stack([named_colour(rng, name) for _ in range(20)])
        assert np.ptp(samples[:, 0]) > 2
    for name in BACKGROUND_COLOURS:
        chroma = np.hypot(*muted_colour(rng, name)[1:])
        assert chroma <= 42


@pytest.mark.parametrize("name", BACKGROUND_COLOURS)
def test_palettes_stand_out_from_any_background(name):
    for number in range(25):
        rng = Rng(4, number)
        around = muted_colour(rng, name) + np.zeros((30, 1))
        chosen, colours = palette(rng, ("red",), around)
        assert chosen in COLOURS
        assert colours.keys() == set(ROLES)
        assert all(((rgb >= 0) & (rgb <= 1)).all() for rgb in colours.values())
        assert difference(lab_from_rgb(colours["main"]), around) > 26


def test_palettes_differ_from_neighbours():
    around = np.full((20, 3), 50.0) * [1, 0, 0]
    for number in range(25):
        rng = Rng(5, number)
        neighbour = rgb_from_lab(named_colour(rng, "red"))
        _, colours = palette(rng, ("red",), around, (neighbour,))
        apart = lab_from_rgb(colours["main"]) - lab_from_rgb(neighbour)
        assert np.linalg.norm(apart) > 20
