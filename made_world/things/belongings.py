"""Drawings of everyday objects: key, umbrella, cup, ladder and bell."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from made_world.drawing.outlines import (
    Outline,
    arc,
    both_sides,
    box,
    curve,
    ellipse,
    moved,
    outline,
    rays,
    ribbon,
    scaled,
    softened,
)
from made_world.drawing.parts import Part, Role, detail, part
from made_world.drawing.rng import Rng


def key(rng: Rng) -> list[Part]:
    """The bow round, square, clover or pointed; one to four bits of the blade."""
    bow, thickness = rng.between(0.34, 0.44), rng.between(0.15, 0.21)
    outer, inner, start = _bow(rng, bow)
    blade = box(start, -thickness / 2, 1, thickness / 2)
    bits, length = rng.whole(1, 3), rng.between(0.28, 0.42)
    pitch = rng.between(0.2, 0.25)
    teeth = [
        box(0.98 - at * pitch - 0.13, 0, 0.98 - at * pitch, length * rng.between(0.75, 1.1))
        for at in range(bits)
    ]
    if bits == 1:
        teeth = [box(0.62, 0, 0.95, length)]
    parts = [part("main", blade, *teeth), part("main", *outer, holes=(inner,))]
    if rng.chance(0.4):
        at = -1 + 2 * bow + rng.between(0, 0.1)
        parts.append(part("second", box(at, -thickness * 0.85, at + 0.1, thickness * 0.85)))
    return parts


def _bow(rng: Rng, size: float) -> tuple[tuple[Outline, ...], Outline, float]:
    """Outlines and hole of the end that one holds, and x right of the hole for the blade."""
    middle, open_share = -1 + size, rng.between(0.5, 0.64)
    style = rng.one_of(("round", "round", "clover", "square", "pointed"))
    if style == "clover":
        leaves = moved(rays([size * 0.62] * 3, 60), middle - size * 0.1, 0)
        discs = [ellipse(x, y, size * 0.52) for x, y in leaves]
        joint = moved(ellipse(0, 0, size * 0.6), middle + size * 0.1, 0)
        hole = moved(ellipse(0, 0, size * 0.36), middle - size * 0.1, 0)
        return (*discs, joint), hole, middle + size * 0.4
    if style == "round":
        height = size * rng.between(0.95, 1.25)
        hole = ellipse(middle, 0, size * open_share, height * open_share)
        return (ellipse(middle, 0, size, height),), hole, middle + size * 0.75
    sides, angle = (4, 45) if style == "square" else (6, 0)
    body = softened(rays([size * (1.25 if sides == 4 else 1.05)] * sides, angle), 0.2)
    hole = moved(scaled(body, open_share), middle, 0)
    return (moved(body, middle, 0),), hole, middle + size * 0.72


def umbrella(rng: Rng) -> list[Part]:
    """Open: four to eight panels, in one or two colours, on a stick with a hook."""
    height, base = rng.between(0.62, 0.95), 0.0
    ribs = np.sin(np.linspace(-np.pi / 2, np.pi / 2, rng.whole(4, 8) + 1))
    panels = [_panel(left, right, height, base) for left, right in pairwise(ribs)]
    length, hook = rng.between(0.72, 0.95), rng.between(0.11, 0.18)
    stick = np.concatenate(
        [outline((0, -height - 0.14), (0, length)), arc(hook, length, hook, hook, 170, 0, 10)]
    )
    # The canopy hides the stick behind it, so the whole stick can be one line.
    parts = [part(rng.one_of(("wood", "dark")), ribbon(stick, rng.between(0.07, 0.1)))]
    other: Role = rng.one_of(("second", "second", "shade", "tint", "main"))
    if other == "main":
        parts.append(part("main", *panels))
        parts.append(detail("shade", *(ribbon(_rib(rib, height, base), 0.03) for rib in ribs)))
    else:
        parts += [part("main", *panels[0::2]), part(other, *panels[1::2])]
    return parts


def _rib(reach: float, height: float, base: float) -> Outline:
    angles = np.linspace(0, np.pi / 2, 10)
    return np.stack([reach * np.sin(angles), base - height * np.cos(angles)], axis=1)


def _panel(left: float, right: float, height: float, base: float) -> Outline:
    """The cloth between two ribs, its lower edge drawn up between them."""
    width = right - left
    sag = np.linspace(0, 1, 8)[1:-1]
    edge = np.stack([right - width * sag, base - 1.1 * width * 0.3 * sag * (1 - sag) * 4 * 0.6], 1)
    return np.concatenate([_rib(right, height, base), edge, _rib(left, height, base)[::-1]])


def cup(rng: Rng) -> list[Part]:
    """Straight, tapered or round, with a handle one can see through; on a saucer or not."""
    top, height = rng.between(0.5, 0.7), rng.between(0.85, 1.35)
    bottom = top * rng.between(0.5, 1.0)
    rim = top * rng.between(0.14, 0.26)
    belly = top * rng.between(-0.02, 0.14)
    # At the handle's height the wall is between the widths of top and bottom.
    wall, middle = (top + bottom) / 2 + belly, height * rng.between(0.4, 0.5)
    reach, tall = rng.between(0.26, 0.4), height * rng.between(0.26, 0.36)
    handle = ribbon(arc(wall - 0.08, middle, reach, tall, -100, 100), rng.between(0.12, 0.17))
    side = curve([(top, 0), (wall, height * 0.55), (bottom, height)], 6)
    foot = arc(0, height, bottom, rim * 0.7, 0, 180, 16)
    body = np.concatenate([side, foot[1:-1], (side * [-1, 1])[::-1]])
    parts = []
    if rng.chance(0.35):
        plate = ellipse(0, height + rim * 0.3, top * rng.between(1.3, 1.55), rim * 1.2)
        parts += [part("second", plate), detail("light", ellipse(0, height, top, rim * 0.7))]
    parts.append(part(rng.one_of(("main", "main", "second")), handle))
    parts.append(part("main", body, ellipse(0, 0, top, rim)))
    parts += _cup_pattern(rng, height, top + 0.2)
    inside = ellipse(0, 0, top * 0.88, rim * 0.82)
    drink = ellipse(0, rim * 0.3, top * 0.78, rim * 0.62)
    parts += [part("tint", ellipse(0, 0, top, rim)), part("shade", inside)]
    return [*parts, detail("wood", drink)] if rng.chance(0.6) else parts


def _cup_pattern(rng: Rng, height: float, reach: float) -> list[Part]:
    style = rng.one_of(("none", "none", "band", "bands", "dots"))
    if style == "band":
        return [detail("second", box(-reach, height * 0.42, reach, height * 0.7))]
    if style == "bands":
        lines = [box(-reach, height * at, reach, height * (at + 0.09)) for at in (0.38, 0.58, 0.78)]
        return [detail("second", *lines)]
    if style == "dots":
        places = [(x, y) for y in (0.42, 0.74) for x in (-0.4, 0, 0.4)]
        return [detail("second", *(ellipse(x, height * y, 0.09) for x, y in places))]
    return []


def ladder(rng: Rng) -> list[Part]:
    """Two rails and four to eight rungs, parallel or narrower at the top."""
    bottom = rng.between(0.3, 0.46)
    top = bottom * rng.one_of((1.0, 1.0, rng.between(0.6, 0.9)))
    rail, rung = rng.between(0.11, 0.16), rng.between(0.09, 0.13)
    count = rng.whole(4, 7)
    heights = np.linspace(-1, 1, count + 2)[1:-1] * rng.between(1.0, 1.08)
    rungs = []
    for y in heights:
        reach = top + (bottom - top) * (y + 1) / 2
        rungs.append(box(-reach, y - rung / 2, reach, y + rung / 2))
    rails = [
        ribbon([(side * top, -1), (side * bottom, 1)], rail, round_ends=rng.chance(0.5))
        for side in (-1, 1)
    ]
    if rng.chance(0.35):
        return [part(rng.one_of(("second", "shade")), *rungs), part("main", *rails)]
    return [part("main", *rungs, *rails)]


def bell(rng: Rng) -> list[Part]:
    """Slim or wide, with a rim, a clapper and a loop; a band or a bow sometimes."""
    waist, mouth = rng.between(0.36, 0.48), rng.between(0.66, 0.86)
    shoulder = rng.between(0.55, 0.9) * waist
    profile = curve(
        [(0, -0.8), (shoulder, -0.72), (waist, -0.35), (waist + 0.08, 0.15),
         ((waist + mouth) / 2 + 0.05, 0.46), (mouth, 0.62)], 6
    )  # fmt: skip
    body = both_sides(profile)
    rim = ribbon([(-mouth, 0.64), (mouth, 0.64)], rng.between(0.12, 0.2))
    size = rng.between(0.13, 0.2)
    clapper = ellipse(0, 0.66 + size * rng.between(0.6, 0.9), size)
    loop, wire = rng.between(0.11, 0.16), rng.between(0.45, 0.6)
    top, gap = (ellipse(0, -0.76 - loop, radius) for radius in (loop, loop * wire))
    other: Role = rng.one_of(("second", "shade", "main"))
    parts = [
        part("second" if other != "second" else "dark", clapper),
        part("main" if other == "main" else "shade", top, holes=(gap,)),
        part("main", body),
    ]
    style = rng.one_of(("none", "none", "band", "bow"))
    if style == "band":
        parts.append(detail("second", box(-1, 0.12, 1, 0.28)))
    parts.append(part(other, rim))
    if style == "bow":
        loops = [
            softened(outline((0, -0.7), (side * 0.42, -0.95), (side * 0.42, -0.45)), 0.2)
            for side in (-1, 1)
        ]
        parts += [part("third", *loops), part("third", ellipse(0, -0.7, 0.1))]
    return parts
