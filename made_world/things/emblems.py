"""Drawings of signs: star, heart, crescent moon, arrow, gear and lightning bolt."""

from __future__ import annotations

import numpy as np

from made_world.drawing.dice import Dice
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

_INNER = {5: (0.38, 0.52), 6: (0.46, 0.6), 7: (0.5, 0.64), 8: (0.54, 0.68)}


def star(dice: Dice) -> list[Part]:
    """Five to eight points; plain, rounded, cut like a crystal, or with a star on it."""
    points = dice.one_of((5, 5, 5, 5, 6, 6, 7, 8))
    inner = dice.between(*_INNER[points])
    corners = rays([1.0, inner] * points)
    style = dice.one_of(("plain", "rounded", "cut", "cut", "inset"))
    body = softened(corners, dice.between(0.12, 0.25)) if style == "rounded" else corners
    parts = [part("main", body)]
    if style == "cut":
        centre = np.zeros((1, 2))
        sides = [np.concatenate([centre, corners[at : at + 2]]) for at in range(0, 2 * points, 2)]
        parts.append(detail("shade", *sides))
    if style == "inset":
        parts.append(detail(dice.one_of(("second", "tint")), scaled(body, 0.55)))
    return parts


def heart(dice: Dice) -> list[Part]:
    """Wide or narrow; plain, shaded by half, with a heart on it, or glossy."""
    angles = np.radians(np.arange(0, 360, 7.5))
    depth = dice.between(4.5, 6.0)
    x = dice.between(14.0, 17.5) * np.abs(np.sin(angles)) ** dice.between(2.5, 3.2)
    y = depth * np.cos(2 * angles) + 2 * np.cos(3 * angles) + np.cos(4 * angles)
    body = np.stack([x * np.sign(np.sin(angles)), y - 13 * np.cos(angles) + 2], axis=1) / 16
    parts = [part("main", body)]
    style = dice.one_of(("plain", "half", "inset", "gloss", "gloss"))
    if style == "half":
        parts.append(detail("shade", box(0, -2, 2, 2)))
    if style == "inset":
        parts.append(detail(dice.one_of(("second", "tint", "shade")), scaled(body, 0.6)))
    if style == "gloss":
        shine = turned(ellipse(0, 0, 0.26, dice.between(0.1, 0.15)), -40)
        parts.append(detail("tint", moved(shine, -0.5, -0.42)))
    return parts


def crescent_moon(dice: Dice) -> list[Part]:
    """Thin or thick; plain, with craters, or with a darker inner edge."""
    thickness, bite = dice.between(0.5, 0.85), dice.between(0.78, 0.98)
    parts = [part("main", _crescent(thickness, bite))]
    style = dice.one_of(("plain", "craters", "craters", "edge"))
    if style == "craters":
        places = (dice.between(125, 150), dice.between(170, 190), dice.between(215, 235))
        reach = 1 - thickness * 0.42
        middles = [arc(0, 0, reach, reach, a, a, 1)[0] for a in places[: dice.whole(2, 3)]]
        holes = [ellipse(x, y, thickness * dice.between(0.1, 0.2)) for x, y in middles]
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


def arrow(dice: Dice) -> list[Part]:
    """To the right: block or bent, the tail straight, notched or feathered."""
    shaft, head = dice.between(0.13, 0.27), dice.between(0.5, 0.72)
    neck, barb = dice.between(0.05, 0.4), dice.between(0, 0.22)
    style = dice.one_of(("plain", "notched", "bent", "bent", "feathered"))
    shaft = min(shaft, 0.15) if style == "feathered" else min(shaft, head - 0.3)
    notch = dice.between(0.12, 0.3) if style == "notched" else 0.0
    across = np.linspace(-1, neck, 12)
    line = np.stack([across, np.zeros_like(across)], axis=1)
    edges = [moved(line, 0, -shaft), moved(line, 0, shaft)[::-1]]
    tail = [outline((-1 + notch, 0))] if notch else []
    pieces = {
        "shaft": np.concatenate([*edges, *tail]),
        "head": outline((neck - barb, -head), (1, 0), (neck - barb, head), (neck, 0)),
    }
    if style == "bent":
        bend = dice.between(0.25, 0.6)
        pieces = {name: _bent(points, bend) for name, points in pieces.items()}
    colour: Role = dice.one_of(("main", "main", "main", "second"))
    feathers = [
        outline((-1.15, side * 0.34), (-0.8, side * 0.34), (-0.55, 0), (-0.95, 0))
        for side in (-1, 1)
    ]
    parts = [part("second", *feathers)] if style == "feathered" else []
    if colour == "main" and style != "feathered":
        return [*parts, part("main", pieces["shaft"], pieces["head"])]
    return [*parts, part("main", pieces["shaft"]), part(colour, pieces["head"])]


def _bent(points: Outline, bend: float) -> Outline:
    """What lay along the x axis, laid along a circle that turns by `bend` half turns."""
    turn = bend * np.pi
    angles, radius = (points[:, 0] + 1) / 2 * turn, 2 / turn
    across = radius - points[:, 1]
    return np.stack([across * np.sin(angles), radius - across * np.cos(angles)], axis=1)


def gear(dice: Dice) -> list[Part]:
    """Seven to fourteen teeth; a hole, spokes, a ring of holes, or a hub of another colour."""
    teeth, root = dice.whole(7, 13), dice.between(0.7, 0.82)
    top, foot = dice.between(0.14, 0.2), dice.between(0.24, 0.3)
    step = 360 / teeth
    corners = [
        arc(0, 0, radius, radius, angle, angle, 1)
        for tooth in range(teeth)
        for radius, angle in (
            (root, (tooth - foot) * step), (1, (tooth - top) * step),
            (1, (tooth + top) * step), (root, (tooth + foot) * step),
        )
    ]  # fmt: skip
    body, bore = np.concatenate(corners), dice.between(0.16, 0.3)
    style = dice.one_of(("plain", "plain", "spokes", "holes", "hub"))
    if style == "spokes":
        return [part("main", body, holes=_between_spokes(dice.whole(3, 6), root - 0.16))]
    holes = [ellipse(0, 0, bore)]
    if style == "holes":
        count, reach = dice.whole(4, 6), root * 0.62
        around = [arc(0, 0, reach, reach, a, a, 1)[0] for a in np.arange(count) * 360 / count]
        holes = [ellipse(x, y, 0.11) for x, y in around] + [ellipse(0, 0, 0.14)]
    parts = [part("main", body, holes=tuple(holes))]
    if style == "hub":
        hub = ellipse(0, 0, min(bore + dice.between(0.14, 0.24), root - 0.15))
        parts.append(part(dice.one_of(("second", "shade")), hub, holes=(holes[0],)))
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


def lightning_bolt(dice: Dice) -> list[Part]:
    """Slim or stout; plain, shaded by half or with a bright core."""
    width, barb = dice.between(0.2, 0.3), dice.between(0.1, 0.24)
    lean, fork = dice.between(0.12, 0.36), dice.between(-0.08, 0.14)
    upper, lower = fork - dice.between(0.14, 0.26), fork + dice.between(0.06, 0.16)
    slope = dice.between(0, 0.08)
    body = outline(
        (lean + width * 0.7, -1), (lean - width, -1), (-width - barb, lower + slope),
        (-0.02, lower - slope), (-lean - 0.05, 1), (width + barb + 0.06, upper - slope),
        (0.1, upper + slope),
    )  # fmt: skip
    parts = [part("main", body)]
    style = dice.one_of(("plain", "plain", "half", "core"))
    if style == "half":
        middle = curve([(lean, -1.1), (0.05, fork), (-lean, 1.1)])
        parts.append(detail("shade", np.concatenate([middle, outline((2, 1), (2, -1))])))
    if style == "core":
        top = ribbon([(lean - width * 0.3, -0.85), (-0.12, fork - 0.04)], 0.12)
        point = ribbon([(0.12, fork - 0.06), (-lean * 0.6, 0.6)], (0.12, 0.03))
        parts.append(detail("tint", top, point))
    return parts
