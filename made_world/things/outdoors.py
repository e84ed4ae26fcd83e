"""Drawings of outdoor objects: fish, house, tree, sailing boat and mushroom."""

from __future__ import annotations

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
    smooth,
    softened,
)
from made_world.drawing.parts import Part, Role, detail, part
from made_world.drawing.rng import Rng


def fish(rng: Rng) -> list[Part]:
    """Swimming to the left: slim or tall, forked or fan tail, striped or not."""
    tall, waist = rng.between(0.34, 0.62), rng.between(0.07, 0.12)
    body = smooth(
        [(-0.95, 0.03), (-0.62, -tall * 0.78), (-0.15, -tall), (0.32, -tall * 0.55), (0.6, -waist),
         (0.6, waist), (0.32, tall * 0.5), (-0.15, tall * 0.92), (-0.62, tall * 0.7)]
    )  # fmt: skip
    spread, depth = rng.between(0.32, 0.55), rng.between(0.05, 0.28)
    tail = softened(
        outline((0.4, -0.1), (1.0, -spread), (1.06, -spread * 0.85), (0.94 - depth, 0),
                (1.06, spread * 0.85), (1.0, spread), (0.4, 0.1)), 0.2
    )  # fmt: skip
    lift = rng.between(0.14, 0.34)
    tip, back = -tall - lift, -tall * 0.6 - lift * 0.6
    fin = outline((-0.4, -tall * 0.8), (-0.05, tip), (0.34, back), (0.36, -tall * 0.3))
    belly = outline((-0.2, tall * 0.8), (0.02, tall + lift * 0.8), (0.2, tall * 0.6))
    fins: Role = rng.one_of(("second", "second", "shade", "main"))
    parts = [part(fins, tail, softened(fin, 0.2), softened(belly, 0.2)), part("main", body)]
    parts += _fish_pattern(rng, tall)
    side_fin = softened(outline((-0.2, -0.07), (0.14, 0.05), (-0.14, 0.17)), 0.2)
    parts.append(part("shade", side_fin))
    size = rng.between(0.09, 0.13)
    eye = (-0.62, -tall * 0.22)
    white = moved(ellipse(0, 0, size), *eye)
    return [*parts, part("light", white), part("dark", moved(ellipse(0, 0, size * 0.55), *eye))]


def _fish_pattern(rng: Rng, tall: float) -> list[Part]:
    style = rng.one_of(("none", "bands", "bands", "back", "face"))
    if style == "bands":
        count, width = rng.whole(2, 4), rng.between(0.06, 0.1)
        bands = [
            ribbon(curve([(x + 0.06, -1), (x - 0.03, 0), (x + 0.06, 1)], 4), 2 * width)
            for x in np.linspace(-0.3, 0.42, count)
        ]
        return [detail(rng.one_of(("third", "light", "shade")), *bands)]
    if style == "back":
        edge = curve([(-1.1, -tall * 0.2), (0, -tall * 0.35), (0.8, -0.02)], 5)
        return [
            detail("shade", np.concatenate([edge, outline((1, -1), (-1.1, -1))])),
        ]
    if style == "face":
        return [detail("third", moved(ellipse(0, 0, 0.42, 1), -0.9, 0))]
    return []


def house(rng: Rng) -> list[Part]:
    """One or two floors under a gable or hipped roof, with a door, windows and a chimney."""
    wide, floors = rng.between(0.62, 0.95), rng.whole(1, 2)
    tall = rng.between(0.7, 0.9) if floors == 1 else rng.between(1.15, 1.4)
    roof, eaves = rng.between(0.45, 0.8), rng.between(0.08, 0.18)
    ridge = rng.one_of((0.0, 0.0, wide * rng.between(0.3, 0.6)))
    edge = wide + eaves
    top = outline((-edge, 0.02), (-ridge - 0.001, -roof), (ridge, -roof), (edge, 0.02))
    parts = []
    if rng.chance(0.65):
        at = wide * rng.between(0.35, 0.6)
        bricks = box(at, -roof * 0.92, at + rng.between(0.16, 0.22), 0)
        parts.append(part(rng.one_of(("third", "shade")), bricks))
    parts += [part("main", box(-wide, 0, wide, tall)), part("second", top)]
    if ridge == 0 and rng.chance(0.4):
        parts.append(detail("light", ellipse(0, -roof * 0.35, 0.12)))
    return parts + _openings(rng, wide, tall, floors)


def _openings(rng: Rng, wide: float, tall: float, floors: int) -> list[Part]:
    """A door in one of three places and windows in the others."""
    places, half = (-wide * 0.58, 0.0, wide * 0.58), wide * rng.between(0.17, 0.21)
    door_at = rng.whole(0, 2)
    floor = tall / floors
    door_top = tall - min(floor * rng.between(0.62, 0.76), 0.6)
    door = box(places[door_at] - half, door_top, places[door_at] + half, tall)
    if rng.chance(0.4):
        round_top = arc(places[door_at], door_top + half, half, half, 180, 360, 12)
        door = np.concatenate([round_top, door[2:]])
    centres = [
        (x, floor * level + floor * 0.42)
        for level in range(floors)
        for at, x in enumerate(places)
        if not (level == floors - 1 and at == door_at)
    ]
    if rng.chance(0.4):
        centres = [(x, y) for x, y in centres if x != 0] or centres
    panes = [box(x - half, y - half, x + half, y + half) for x, y in centres]
    bars = [box(x - half, y - 0.02, x + half, y + 0.02) for x, y in centres]
    bars += [box(x - 0.02, y - half, x + 0.02, y + half) for x, y in centres]
    parts = [part(rng.one_of(("third", "wood")), door), part("glass", *panes)]
    return [*parts, detail("light", *bars)] if rng.chance(0.7) else parts


def tree(rng: Rng) -> list[Part]:
    """A trunk under a round, tall, cloudy or conifer crown; fruit sometimes."""
    style = rng.one_of(("cloud", "cloud", "round", "conifer", "conifer"))
    width = rng.between(0.16, 0.28)
    if style == "conifer":
        return _conifer(rng, width)
    trunk = ribbon([(0, 0.2), (0, 1)], (width * 0.7, width * 1.3), round_ends=False)
    branches = [ribbon([(0, 0.45), (side * 0.4, 0.0)], (width * 0.5, 0.06)) for side in (-1, 1)]
    parts = [part("wood", trunk, *branches)]
    if style == "cloud":
        crown, shadows = _cloud(rng)
    else:
        reach, height = rng.between(0.5, 0.72), rng.between(0.6, 0.75)
        lobes = rng.whole(9, 13)
        wavy = 1 + rng.between(0.04, 0.08) * np.cos(np.arange(72) * lobes * np.pi / 36)
        crown = [moved(rays(wavy) * np.array([reach, height]), 0, -0.32)]
        shadows = [moved(ellipse(0, 0, reach, height), reach * 0.5, -0.1)]
    parts.append(part("main", *crown))
    finish = rng.one_of(("plain", "shadow", "shadow", "fruit"))
    if finish == "shadow":
        parts.append(detail("shade", *shadows))
    if finish == "fruit":
        places = [(rng.between(-0.5, 0.5), rng.between(-0.8, 0.1)) for _ in range(9)]
        parts.append(detail("third", *(ellipse(x, y, 0.085) for x, y in places)))
    if style == "round":
        bough = ribbon([(0, 0.5), (0, -0.35)], (width * 0.7, 0.05))
        twigs = [ribbon([(0, 0.2), (side * 0.26, -0.16)], (0.08, 0.04)) for side in (-1, 1)]
        parts.append(detail("wood", bough, *twigs))
    return parts


def _cloud(rng: Rng) -> tuple[list[Outline], list[Outline]]:
    """Overlapping discs, and those at the lower right that lie in the shadow."""
    count, turn = rng.whole(5, 7), rng.between(0, 360)
    discs = [ellipse(0, -0.32, 0.5, 0.45)]
    for at in range(count):
        x, y = arc(0, -0.32, 0.5, 0.38, turn + at * 360 / count, 0, 1)[0]
        discs.append(ellipse(x, y, rng.between(0.26, 0.36)))
    shadows = [ellipse(0.42, -0.02, 0.38, 0.3), ellipse(-0.1, 0.14, 0.34, 0.22)]
    return discs, shadows


def _conifer(rng: Rng, width: float) -> list[Part]:
    layers, reach = rng.whole(2, 4), rng.between(0.5, 0.68)
    trunk = box(-width / 2, 0.5, width / 2, 1)
    parts = [part("wood", trunk)]
    bottoms = 0.72 - np.arange(layers) * rng.between(0.36, 0.46)
    other: Role = rng.one_of(("main", "shade"))
    for at, bottom in enumerate(bottoms):
        wide = reach * (1 - 0.5 * at / max(layers - 1, 1))
        top = bottom - rng.between(0.72, 0.85)
        sagging = curve([(wide, bottom), (0, bottom + 0.08), (-wide, bottom)], 5)
        parts.append(
            part(other if at % 2 else "main", np.concatenate([outline((0, top)), sagging]))
        )
    if rng.chance(0.25):
        balls = [(rng.between(-0.3, 0.3), bottoms[0] - rng.between(0.08, 0.2)) for _ in range(3)]
        parts.append(detail("third", *(ellipse(x, y, 0.06) for x, y in balls)))
    return parts


def sailing_boat(rng: Rng) -> list[Part]:
    """A hull under one or two sails, a pennant sometimes."""
    mast, deck = rng.between(-0.12, 0.12), 0.5
    depth, overhang = rng.between(0.28, 0.42), rng.between(0.12, 0.3)
    bow = rng.between(0.8, 0.98)
    stern = -bow + overhang * 0.5
    hull = np.concatenate(
        [
            outline((-bow, deck), (bow, deck - rng.between(0, 0.08))),
            curve([(bow - overhang, deck + depth * 0.7), (bow - overhang - 0.2, deck + depth)], 5),
            curve([(stern + 0.15, deck + depth), (stern, deck + depth * 0.6)], 5),
        ]
    )
    top, boom = rng.between(-1.05, -0.9), deck - rng.between(0.1, 0.18)
    reach, belly = rng.between(0.6, 0.85), rng.between(0.02, 0.14)
    bulge = (mast + reach * 0.6 + belly, (top + boom) / 2 + 0.1)
    leech = curve([(mast + 0.02, top + 0.06), bulge, (mast + reach, boom)])
    parts = [part("wood", box(mast - 0.035, top - 0.08, mast + 0.035, deck))]
    parts.append(part("main", np.concatenate([leech, outline((mast + 0.02, boom))])))
    parts += _sail_pattern(rng, mast, top, boom)
    if rng.chance(0.7):
        bulge = (mast - reach * 0.45 - belly, boom - 0.45)
        fore = curve([(mast - 0.02, top + 0.25), bulge, (-bow + 0.12, boom + 0.02)])
        jib = np.concatenate([fore, outline((mast - 0.02, boom))])
        parts.append(part(rng.one_of(("main", "third", "tint")), jib))
    if rng.chance(0.35):
        flag = outline((mast, top - 0.08), (mast - 0.3, top + 0.0), (mast, top + 0.09))
        parts.append(part("third", flag))
    parts.append(part("second", hull))
    if rng.chance(0.5):
        parts.append(detail("light", box(-1, deck + depth * 0.3, 1, deck + depth * 0.52)))
    return parts


def _sail_pattern(rng: Rng, mast: float, top: float, boom: float) -> list[Part]:
    style = rng.one_of(("none", "none", "bands", "badge"))
    if style == "bands":
        tall = boom - top
        bands = [box(-1, top + tall * at, 1, top + tall * (at + 0.12)) for at in (0.3, 0.55, 0.8)]
        return [detail(rng.one_of(("third", "shade")), *bands)]
    if style == "badge":
        return [detail("third", ellipse(mast + 0.25, boom - 0.38, 0.13))]
    return []


def mushroom(rng: Rng) -> list[Part]:
    """Dome, cone or flat cap with or without spots on a straight or bulging stem."""
    wide, tall = rng.between(0.72, 1.0), rng.between(0.55, 1.0)
    shoulder, lip = rng.between(0.75, 0.98), rng.between(0.06, 0.2)
    cap = both_sides(
        curve(
            [(0, -tall), (wide * 0.5 * shoulder, -tall * 0.86), (wide * 0.92, -tall * 0.3),
             (wide, 0), (wide * 0.8, lip), (0, lip * 1.25)], 6
        )
    )  # fmt: skip
    stem, foot = rng.between(0.2, 0.32), rng.between(0.26, 0.44)
    bottom = rng.between(0.75, 1.05)
    stalk = both_sides(
        curve(
            [
                (stem, -0.1),
                (stem * 0.94, bottom * 0.45),
                (foot, bottom * 0.85),
                (foot * 0.8, bottom),
                (0, bottom + 0.03),
            ],
            5,
        )
    )
    parts = [part("light", stalk)]
    if rng.chance(0.3):
        hem = stem + 0.14
        skirt = softened(outline((-stem, 0.2), (stem, 0.2), (hem, 0.42), (-hem, 0.42)), 0.15)
        parts.append(part(rng.one_of(("tint", "second")), skirt))
    parts.append(part("main", cap))
    parts.append(detail("shade", ellipse(0, lip * 1.15, wide * 0.95, lip * 0.75 + 0.03)))
    if rng.chance(0.75):
        parts.insert(-1, detail(rng.one_of(("light", "light", "second")), *_spots(rng, wide, tall)))
    return parts


def _spots(rng: Rng, wide: float, tall: float) -> list[Outline]:
    size = rng.between(0.11, 0.19)
    places = [(-0.62, -0.22), (-0.3, -0.62), (0.02, -0.28), (0.38, -0.66), (0.66, -0.24)]
    kept = places if rng.chance(0.6) else places[1:4]
    return [
        ellipse(
            x * wide + rng.between(-0.06, 0.06),
            y * tall + rng.between(-0.05, 0.05),
            size * rng.between(0.7, 1.15),
            size * rng.between(0.6, 1.0),
        )
        for x, y in kept
    ]
