"""Drawings of signs: star, heart, crescent moon, arrow, gear and lightning bolt."""

from __future__ import annotations

import numpy as np

from made_world.drawing.outlines import (
    Outline,
    arc,
    box,
    curve,
    ellipse,
    moved,
    outline,
    rays,
    ribbon,
    scaled,
    softened,
    turned,
)
from made_world.drawing.parts import Part, Role, detail, part
from made_world.drawing.rng import Rng

_INNER = {5: (0.38, 0.52), 6: (0.46, 0.6), 7: (0.5, 0.64), 8: (0.54, 0.68)}


def star(rng: Rng) -> list[Part]:
    """Five to eight points; plain, rounded, cut like a crystal, or with a star on it."""
    points = rng.one_of((5, 5, 5, 5, 6, 6, 7, 8))
    inner = rng.between(*_INNER[points])
    corners = rays([1.0, inner] * points)
    style = rng.one_of(("plain", "rounded", "cut", "cut", "inset"))
    body = softened(corners, rng.between(0.12, 0.25)) if style == "rounded" else corners
    parts = [part("main", body)]
    if style == "cut":
        centre = np.zeros((1, 2))
        sides = [np.concatenate([centre, corners[at : at + 2]]) for at in range(0, 2 * points, 2)]
        parts.append(detail("shade", *sides))
    if style == "inset":
        parts.append(detail(rng.one_of(("second", "tint")), scaled(body, 0.55)))
    return parts


def heart(rng: Rng) -> list[Part]:
    """Wide or narrow; plain, shaded by half, with a heart on it, or glossy."""
    angles = np.radians(np.arange(0, 360, 7.5))
    depth = rng.between(4.5, 6.0)
    x = rng.between(14.0, 17.5) * np.abs(np.sin(angles)) ** rng.between(2.5, 3.2)
    y = depth * np.cos(2 * angles) + 2 * np.cos(3 * angles) + np.cos(4 * angles)
    body = np.stack([x * np.sign(np.sin(angles)), y - 13 * np.cos(angles) + 2], axis=1) / 16
    parts = [part("main", body)]
    style = rng.one_of(("plain", "half", "inset", "gloss", "gloss"))
    if style == "half":
        parts.append(detail("shade", box(0, -2, 2, 2)))
    if style == "inset":
        parts.append(detail(rng.one_of(("second", "tint", "shade")), scaled(body, 0.6)))
    if style == "gloss":
        shine = turned(ellipse(0, 0, 0.26, rng.between(0.1, 0.15)), -40)
        parts.append(detail("tint", moved(shine, -0.5, -0.42)))
    return parts


def crescent_moon(rng: Rng) -> list[Part]:
    """Thin or thick; plain, with craters, or with a darker inner edge."""
    thickness, bite = rng.between(0.5, 0.85), rng.between(0.78, 0.98)
    parts = [part("main", _crescent(thickness, bite))]
    style = rng.one_of(("plain", "craters", "craters", "edge"))
    if style == "craters":
        places = (rng.between(125, 150), rng.between(170, 190), rng.between(215, 235))
        reach = 1 - thickness * 0.42
        middles = [arc(0, 0, reach, reach, a, a, 1)[0] for a in places[: rng.whole(2, 3)]]
        holes = [ellipse(x, y, thickness * rng.between(0.1, 0.2)) for x, y in middles]
        parts.append(detail("shade", *holes))
    if style == "edge":
        middle = -1 + thickness * 0.6 + bite
        parts.append(detail("shade", ellipse(middle, 0, bite)))
    return parts


def _crescent(thickness: float, bite: float) -> Outline:
    """A disc of radius 1 out of which a disc of radius `bite` is taken on the right."""
    middle = -1 + thickness + bite
    crossing = (1 - bite**2 + middle**2) / (2 * middle)
    outer = np.degrees(np.arccos(np.clip(crossing, -1, 1)))
    inner = np.degrees(np.arccos(np.clip((crossing - middle) / bite, -1, 1)))
    return np.concatenate(
        [
            arc(0, 0, 1, 1, outer, 360 - outer, 40),
            arc(middle, 0, bite, bite, 360 - inner, inner, 40)[1:-1],
        ]
    )


def arrow(rng: Rng) -> list[Part]:
    """To the right: block or bent, the tail straight, notched or feathered."""
    shaft, head = rng.between(0.13, 0.27), rng.between(0.5, 0.72)
    neck, barb = rng.between(0.05, 0.4), rng.between(0, 0.22)
    style = rng.one_of(("plain", "notched", "bent", "bent", "feathered"))
    shaft = min(shaft, 0.15) if style == "feathered" else min(shaft, head - 0.3)
    notch = rng.between(0.12, 0.3) if style == "notched" else 0.0
    across = np.linspace(-1, neck, 12)
    line = np.stack([across, np.zeros_like(across)], axis=1)
    edges = [moved(line, 0, -shaft), moved(line, 0, shaft)[::-1]]
    tail = [outline((-1 + notch, 0))] if notch else []
    pieces = {
        "shaft": np.concatenate([*edges, *tail]),
        "head": outline((neck - barb, -head), (1, 0), (neck - barb, head), (neck, 0)),
    }
    if style == "bent":
        bend = rng.between(0.25, 0.6)
        pieces = {name: _bent(points, bend) for name, points in pieces.items()}
    colour: Role = rng.one_of(("main", "main", "main", "second"))
    feathers = [
        outline((-1.15, side * 0.34), (-0.8, side * 0.34), (-0.55, 0), (-0.95, 0))
        for side in (-1, 1)
    ]
    parts = [part("second", *feathers)] if style == "feathered" else []
    if colour == "main" and style != "feathered":
        return [*parts, part("main", pieces["shaft"], pieces["head"])]
    return [*parts, part("main", pieces["shaft"]), part(colour, pieces["head"])]


def _bent(points: Outline, bend: float) -> Outline:
    """Points along the x axis, moved onto a circle that turns by `bend` half turns."""
    turn = bend * np.pi
    angles, radius = (points[:, 0] + 1) / 2 * turn, 2 / turn
    across = radius - points[:, 1]
    return np.stack([across * np.sin(angles), radius - across * np.cos(angles)], axis=1)


def gear(rng: Rng) -> list[Part]:
    """Seven to fourteen teeth; a hole, spokes, a ring of holes, or a hub of another colour."""
    teeth, root = rng.whole(7, 13), rng.between(0.7, 0.82)
    top, foot = rng.between(0.14, 0.2), rng.between(0.24, 0.3)
    step = 360 / teeth
    corners = [
        arc(0, 0, radius, radius, angle, angle, 1)
        for tooth in range(teeth)
        for radius, angle in (
            (root, (tooth - foot) * step), (1, (tooth - top) * step),
            (1, (tooth + top) * step), (root, (tooth + foot) * step),
        )
    ]  # fmt: skip
    body, bore = np.concatenate(corners), rng.between(0.16, 0.3)
    style = rng.one_of(("plain", "plain", "spokes", "holes", "hub"))
    if style == "spokes":
        return [part("main", body, holes=_between_spokes(rng.whole(3, 6), root - 0.16))]
    holes = [ellipse(0, 0, bore)]
    if style == "holes":
        count, reach = rng.whole(4, 6), root * 0.62
        around = [arc(0, 0, reach, reach, a, a, 1)[0] for a in np.arange(count) * 360 / count]
        holes = [ellipse(x, y, 0.11) for x, y in around] + [ellipse(0, 0, 0.14)]
    parts = [part("main", body, holes=tuple(holes))]
    if style == "hub":
        hub = ellipse(0, 0, min(bore + rng.between(0.14, 0.24), root - 0.15))
        parts.append(part(rng.one_of(("second", "shade")), hub, holes=(holes[0],)))
    return parts


def _between_spokes(spokes: int, rim: float) -> tuple[Outline, ...]:
    step, gap = 360 / spokes, 12
    return tuple(
        np.concatenate(
            [
                arc(0, 0, rim, rim, at * step + gap, (at + 1) * step - gap, 10),
                arc(0, 0, 0.24, 0.24, (at + 1) * step - gap * 1.6, at * step + gap * 1.6, 6),
            ]
        )
        for at in range(spokes)
    )


def lightning_bolt(rng: Rng) -> list[Part]:
    """Slim or stout; plain, shaded by half or with a bright core."""
    width, barb = rng.between(0.2, 0.3), rng.between(0.1, 0.24)
    lean, fork = rng.between(0.12, 0.36), rng.between(-0.08, 0.14)
    upper, lower = fork - rng.between(0.14, 0.26), fork + rng.between(0.06, 0.16)
    slope = rng.between(0, 0.08)
    body = outline(
        (lean + width * 0.7, -1), (lean - width, -1), (-width - barb, lower + slope),
        (-0.02, lower - slope), (-lean - 0.05, 1), (width + barb + 0.06, upper - slope),
        (0.1, upper + slope),
    )  # fmt: skip
    parts = [part("main", body)]
    style = rng.one_of(("plain", "plain", "half", "core"))
    if style == "half":
        middle = curve([(lean, -1.1), (0.05, fork), (-lean, 1.1)])
        parts.append(detail("shade", np.concatenate([middle, outline((2, 1), (2, -1))])))
    if style == "core":
        top = ribbon([(lean - width * 0.3, -0.85), (-0.12, fork - 0.04)], 0.12)
        point = ribbon([(0.12, fork - 0.06), (-lean * 0.6, 0.6)], (0.12, 0.03))
        parts.append(detail("tint", top, point))
    return parts
