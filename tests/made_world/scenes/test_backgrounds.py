"""Backgrounds are muted and textured, and all sorts occur."""

from __future__ import annotations

import numpy as np

from made_world.drawing.colours import BACKGROUND_COLOURS, lab_from_rgb
from made_world.drawing.rng import Rng
from made_world.scenes.backgrounds import TEXTURES, background
from made_world.things.distractors import add_distractors


def test_all_textures_and_colours_occur():
    made = [background(Rng(2, number), 40, 52) for number in range(300)]
    assert {one.texture for one in made} == set(TEXTURES)
    assert {one.colour for one in made} == set(BACKGROUND_COLOURS)
    for one in made:
        assert one.rgb.shape == (40, 52, 3)
        assert one.rgb.dtype == np.float32
        assert 0 <= one.rgb.min() <= one.rgb.max() <= 1


def test_backgrounds_are_neither_flat_nor_garish():
    for number in range(100):
        lab = lab_from_rgb(background(Rng(3, number), 64, 64).rgb)
        assert lab[..., 0].std() > 0.3
        assert np.quantile(np.hypot(lab[..., 1], lab[..., 2]), 0.9) < 50
        assert np.ptp(np.quantile(lab[..., 0], [0.05, 0.95])) < 45


def test_distractors_are_faint():
    changed = 0
    for number in range(60):
        canvas = np.full((64, 80, 3), 0.5, dtype=np.float32)
        add_distractors(Rng(4, number), canvas, 3)
        assert np.abs(canvas - 0.5).max() < 0.3
        changed += bool((canvas != 0.5).any())
    assert 25 < changed < 60
