"""Drawings of things that lie about: pebbles, blocks, rings, sticks, scraps and balls.

Nobody would name them in a caption; they fill an image, and hide parts of what is named.
"""

from __future__ import annotations

import numpy as np

from made_world.drawing.outlines import (
    box,
    curve,
    ellipse,
    outline,
    rays,
    ribbon,
    smooth,
    softened,
)
from made_world.drawing.parts import Part, detail, part
from made_world.drawing.rng import Rng


def pebble(rng: Rng) -> list[Part]:
    """A smooth uneven lump."""
    radii = [rng.between(0.65, 1.0) for _ in range(7)]
    body = smooth(rays(radii) * [1, rng.between(0.6, 0.95)], 5)
    parts = [part("main", body)]
    if rng.chance(0.5):
        parts.append(detail("shade", body * 0.9 + [0.25, 0.3]))
    return parts


def block(rng: Rng) -> list[Part]:
    """A box seen from a corner, or a plain tile."""
    if rng.chance(0.35):
        return [part("main", softened(box(-0.9, -0.7, 0.9, 0.7), rng.between(0.02, 0.15)))]
    deep, rise = rng.between(0.25, 0.5), rng.between(0.2, 0.4)
    front = box(-0.8, -0.4, 0.5, 0.8)
    top = outline((-0.8, -0.4), (-0.8 + deep, -0.4 - rise), (0.5 + deep, -0.4 - rise), (0.5, -0.4))
    side = outline((0.5, -0.4), (0.5 + deep, -0.4 - rise), (0.5 + deep, 0.8 - rise), (0.5, 0.8))
    return [part("main", front), part("tint", top), part("shade", side)]


def ring(rng: Rng) -> list[Part]:
    """A hoop that one can see through."""
    tall = rng.between(0.6, 1.0)
    inner = rng.between(0.5, 0.75)
    return [part("main", ellipse(0, 0, 1, tall), holes=(ellipse(0, 0, inner, inner * tall),))]


def stick(rng: Rng) -> list[Part]:
    """A bent twig, with a side shoot sometimes; or a blade of grass, which is pointed."""
    bow = rng.between(-0.3, 0.3)
    path = curve([(-1, 0), (-0.3, bow), (0.3, bow * 0.8), (1, rng.between(-0.2, 0.2))], 6)
    thick = rng.between(0.12, 0.2)
    if rng.chance(0.4):
        return [part("main", ribbon(path, (thick, 0.02), round_ends=False))]
    twigs = [ribbon(path, (thick, thick * 0.6))]
    if rng.chance(0.5):
        x, y = path[len(path) // 2]
        twigs.append(ribbon([(x, y), (x + 0.35, y - rng.between(0.25, 0.45))], (0.1, 0.05)))
    return [part("main", *twigs)]


def scrap(rng: Rng) -> list[Part]:
    """A torn piece of paper or cloth with straight uneven sides."""
    corners = rng.whole(4, 7)
    radii = [rng.between(0.55, 1.0) for _ in range(corners)]
    body = rays(radii, rng.between(0, 360))
    parts = [part("main", body)]
    style = rng.one_of(("plain", "plain", "lines", "fold"))
    if style == "lines":
        lines = [box(-1, y, 1, y + 0.08) for y in (-0.5, -0.2, 0.1, 0.4)]
        parts.append(detail("shade", *lines))
    if style == "fold":
        parts.append(detail("tint", np.concatenate([body[: corners // 2 + 1], [[0.0, 0.0]]])))
    return parts


def ball(rng: Rng) -> list[Part]:
    """Round, plain or with a band or panels."""
    parts = [part("main", ellipse(0, 0, 1))]
    style = rng.one_of(("plain", "band", "panels"))
    if style == "band":
        width = rng.between(0.15, 0.35)
        parts.append(detail("second", box(-2, -width, 2, width)))
    if style == "panels":
        parts.append(
            detail("second", outline((0, 0), (-1, -2), (1, -2)), outline((0, 0), (2, 1), (-2, 1)))
        )
    return parts
