"""Paint: colours by role, patterns on the main colour only, light from its side, clean edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from made_world.drawing.cutouts import Pose, cut_out
from made_world.drawing.outlines import box, ellipse
from made_world.drawing.painting import TEXTURES, Light, drawn_light, drawn_texture, painted
from made_world.drawing.parts import ROLES, part
from made_world.drawing.rng import Rng

COLOURS = {role: np.array([0.1, 0.1, 0.1]) + 0.08 * at for at, role in enumerate(ROLES)} | {
    "main": np.array([0.8, 0.2, 0.2]),
    "second": np.array([0.1, 0.2, 0.9]),
    "dark": np.array([0.05, 0.25, 0.05]),
}
FLAT = Light(towards=270, relief=0, falloff=0, gloss=0, shadow=0, reach=0)
POSE = Pose(angle=0, flipped=False, stretch=1, side=60, line=0)
DISC = [part("main", ellipse(0, 0, 1))]


def test_flat_parts_have_the_colours_of_their_roles_up_to_the_edge():
    cutout = cut_out([*DISC, part("second", box(-0.2, -0.2, 0.2, 0.2))], POSE)
    rgb = painted(cutout, COLOURS, "plain", FLAT, Rng(1))
    assert rgb.dtype == np.float32
    assert rgb[32, 32] == pytest.approx(COLOURS["second"], abs=1e-3)
    rim = (cutout.coverage > 0.05) & (cutout.coverage < 0.9)
    assert rgb[rim] == pytest.approx(np.tile(COLOURS["main"], (rim.sum(), 1)), abs=0.01)


def test_the_outline_is_dark_up_to_the_edge():
    cutout = cut_out(DISC, replace(POSE, line=2.5))
    rgb = painted(cutout, COLOURS, "plain", FLAT, Rng(1))
    outside = (cutout.coverage > 0.05) & (cutout.coverage < 0.9)
    assert rgb[outside] == pytest.approx(np.tile(COLOURS["dark"], (outside.sum(), 1)), abs=0.1)
    assert rgb[32, 32] == pytest.approx(COLOURS["main"], abs=1e-3)


@pytest.mark.parametrize("texture", TEXTURES)
def test_textures_show_on_the_main_colour_only(texture):
    cutout = cut_out([*DISC, part("second", box(-0.5, -0.5, 0.5, 0.5))], POSE)
    rgb = painted(cutout, COLOURS, texture, FLAT, Rng(2))
    (_, _), (_, square) = cutout.layers
    assert rgb[square == 1].std(axis=0).max() < 1e-3
    body = rgb[(cutout.coverage == 1) & (square == 0)]
    assert (body.std(axis=0).max() > 0.01) == (texture != "plain")


def test_the_side_towards_the_light_is_brighter():
    cutout = cut_out(DISC, POSE)
    for towards, side in ((270, np.s_[:20]), (90, np.s_[-20:])):
        light = replace(FLAT, towards=towards, relief=0.8, falloff=0.2)
        brightness = painted(cutout, COLOURS, "plain", light, Rng(3)).mean(axis=2)
        inside = np.where(cutout.mask, brightness, np.nan)
        assert np.nanmean(inside[side]) > np.nanmean(inside) + 0.02


def test_lights_and_textures_of_all_sorts_are_drawn():
    lights = [drawn_light(Rng(4, number)) for number in range(100)]
    assert {light.relief == 0 for light in lights} == {True, False}
    assert {light.shadow == 0 for light in lights} == {True, False}
    assert {drawn_texture(Rng(5, number), thin=False) for number in range(200)} == set(TEXTURES)
    thin = {drawn_texture(Rng(5, number), thin=True) for number in range(200)}
    assert not thin & {"striped", "spotted", "checked"}
