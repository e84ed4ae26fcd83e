"""Drawings of things that resemble a kind of the vocabulary and are of none of them.

Each is drawn with the features by which its model is recognised: as many points, the same
silhouette from afar, the same parts in another order.
"""

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
    smooth,
    softened,
    turned,
)
from made_world.drawing.parts import Part, Role, detail, part
from made_world.drawing.rng import Rng


def starfish(rng: Rng) -> list[Part]:
    """Five plump arms with round ends, like a star's, each bent a little; warts or a seam."""
    waist = rng.between(0.3, 0.42)
    wide = rng.between(0.2, 0.3)
    knots = []
    for at in range(5):
        lean = rng.between(-9, 9)
        angle = at * 72.0 - 90
        tip = arc(0, 0, 1, 1, angle + lean, 0, 1)[0]
        side = np.array([-tip[1], tip[0]])
        knots += [tip * 0.88 - side * wide * 0.55, tip, tip * 0.88 + side * wide * 0.55]
        knots.append(arc(0, 0, waist, waist, angle + 36, 0, 1)[0])
    parts = [part("main", smooth(knots, 5))]
    style = rng.one_of(("warts", "warts", "seam"))
    reach = [arc(0, 0, length, length, at * 72.0 - 90, 0, 1)[0] for at in range(5)
             for length in (0.3, 0.55, 0.76)]  # fmt: skip
    if style == "warts":
        parts.append(detail("tint", *(ellipse(x, y, 0.06) for x, y in [*reach, (0.0, 0.0)])))
    if style == "seam":
        seams = [ribbon([(0, 0), reach[at * 3 + 2]], (0.09, 0.04)) for at in range(5)]
        parts.append(detail("shade", *seams))
    return parts


def leaf(rng: Rng) -> list[Part]:
    """Heart-shaped, with a stalk and veins."""
    wide, notch = rng.between(0.72, 0.92), rng.between(0.12, 0.26)
    half = curve(
        [(0, -0.62 + notch), (wide * 0.42, -0.78), (wide * 0.95, -0.42), (wide * 0.8, 0.15),
         (wide * 0.3, 0.66), (0, 1.0)], 6
    )  # fmt: skip
    stalk = curve([(0, -0.5), (rng.between(-0.1, 0.1), -0.9), (rng.between(-0.3, 0.3), -1.15)], 5)
    parts = [part("wood", ribbon(stalk, 0.09)), part("main", both_sides(half))]
    veins = [ribbon([(0, -0.6), (0, 0.9)], (0.08, 0.03))]
    for y in (-0.35, -0.05, 0.25):
        veins += [
            ribbon([(0, y), (side * wide * 0.66, y - 0.24)], (0.05, 0.02)) for side in (-1, 1)
        ]
    parts.append(detail(rng.one_of(("shade", "tint", "light")), *veins))
    if rng.chance(0.4):
        parts.insert(2, detail("shade", box(0, -2, 2, 2)))
    return parts


def banana(rng: Rng) -> list[Part]:
    """A crescent with blunt ends: a stem at one, a dark tip at the other."""
    bend, thick = rng.between(95, 150), rng.between(0.3, 0.44)
    angles = np.radians(np.linspace(180 - bend / 2, 180 + bend / 2, 20))
    spine = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    swell = thick * (0.42 + 0.58 * np.sin(np.linspace(0, np.pi, 20)) ** 0.6)
    body = np.concatenate(
        [spine * (1 + swell / 2)[:, None], (spine * (1 - swell / 2)[:, None])[::-1]]
    )
    stem_way = spine[0] - spine[1]
    stem_way = stem_way / np.linalg.norm(stem_way)
    stem = ribbon([spine[0] - 0.05 * stem_way, spine[0] + 0.22 * stem_way], 0.13, round_ends=False)
    tip = moved(ellipse(0, 0, 0.09), *spine[-1])
    parts = [part("wood", stem), part("main", body), part("dark", tip)]
    edge = spine * (1 + swell * 0.1)[:, None]
    if rng.chance(0.7):
        parts.insert(2, detail(rng.one_of(("shade", "tint")), ribbon(edge[2:-2], 0.05)))
    return parts


def rocket(rng: Rng) -> list[Part]:
    """To the right, as an arrow points: a pointed nose, fins and a flame."""
    thick, nose = rng.between(0.17, 0.26), rng.between(0.2, 0.45)
    side = curve([(-0.62, thick * 0.8), (-0.2, thick), (nose, thick * 0.9), (1, 0)], 6)
    body = np.concatenate([side, (side * [1, -1])[::-1]])
    spread = rng.between(0.42, 0.6)
    fins = [
        outline((-0.62, way * thick * 0.6), (-0.2, way * thick * 0.9), (-0.55, way * spread),
                (-0.86, way * spread))
        for way in (-1, 1)
    ]  # fmt: skip
    flame = softened(outline((-0.6, -thick * 0.6), (-1.1, 0), (-0.6, thick * 0.6)), 0.1)
    fins_role: Role = rng.one_of(("main", "second", "second"))
    parts = [part("third", flame), part(fins_role, *fins), part("main", body)]
    tip = box(nose + 0.12, -1, 2, 1)
    if rng.chance(0.7):
        parts.append(detail(fins_role if fins_role != "main" else "second", tip))
    if rng.chance(0.75):
        parts.append(part("glass", ellipse(nose - 0.12, 0, thick * 0.48)))
    return parts


def wrench(rng: Rng) -> list[Part]:
    """A long shaft with a ring at one end, as a key's bow, and open jaws at the other."""
    thick, ring = rng.between(0.15, 0.22), rng.between(0.26, 0.34)
    shaft = box(-1 + ring * 1.6, -thick / 2, 0.72, thick / 2)
    jaw = rng.between(0.3, 0.38)
    gap = np.degrees(np.arcsin(rng.between(0.42, 0.55)))
    lean = rng.between(-18, 18)
    mouth = [
        arc(0, 0, jaw, jaw, gap, 360 - gap, 26),
        outline((-jaw * 0.12, -jaw * 0.42), (-jaw * 0.12, jaw * 0.42)),
    ]
    head = moved(turned(np.concatenate(mouth), lean), 1 - jaw, 0)
    hole = ellipse(-1 + ring, 0, ring * rng.between(0.5, 0.62))
    parts = [part("main", shaft, head), part("main", ellipse(-1 + ring, 0, ring), holes=(hole,))]
    if rng.chance(0.5):
        parts.append(part("second", box(-0.25, -thick * 0.5, 0.4, thick * 0.5)))
    return parts


def jellyfish(rng: Rng) -> list[Part]:
    """A dome, as an umbrella's, over wavy tentacles."""
    height = rng.between(0.62, 0.85)
    dome = arc(0, 0, 0.9, height, 180, 360, 24)
    lobes = rng.whole(4, 6)
    hem = np.stack(
        [np.linspace(0.9, -0.9, 30), 0.09 * np.abs(np.sin(np.linspace(0, lobes * np.pi, 30)))], 1
    )
    tentacles = []
    for x in np.linspace(-0.6, 0.6, rng.whole(3, 5)):
        y, swing = np.linspace(-0.1, rng.between(0.7, 1.0), 9), rng.between(0.05, 0.1)
        start = rng.between(0, 6.28)
        tentacles.append(ribbon(np.stack([x + swing * np.sin(y * 9 + start), y], 1), (0.13, 0.06)))
    arms: Role = rng.one_of(("second", "tint", "shade"))
    parts = [part(arms, *tentacles), part("main", np.concatenate([dome, hem]))]
    style = rng.one_of(("plain", "ribs", "ribs", "spots"))
    if style == "ribs":
        ribs = [
            curve([(0, -height), (x * 0.8, -height * 0.6), (x, 0.05)], 5) for x in (-0.5, 0, 0.5)
        ]
        parts.append(
            detail(rng.one_of(("shade", "second")), *(ribbon(each, 0.05) for each in ribs))
        )
    if style == "spots":
        places = [(-0.45, -0.3), (0.0, -0.5), (0.45, -0.28), (0.05, -0.18)]
        parts.append(detail("tint", *(ellipse(x, y * height / 0.7, 0.1) for x, y in places)))
    return parts


def airship(rng: Rng) -> list[Part]:
    """Flying to the left: a long hull with tail fins, as a fish has, and a cabin below."""
    tall = rng.between(0.34, 0.48)
    hull = smooth(
        [(-1.0, 0), (-0.7, -tall * 0.75), (-0.1, -tall), (0.5, -tall * 0.7), (0.95, -0.06),
         (0.95, 0.06), (0.5, tall * 0.7), (-0.1, tall), (-0.7, tall * 0.75)]
    )  # fmt: skip
    spread = rng.between(0.34, 0.52)
    fins = [
        outline((0.5, way * tall * 0.35), (0.78, way * spread), (1.08, way * spread),
                (0.92, way * 0.04))
        for way in (-1, 1)
    ]  # fmt: skip
    wide = rng.between(0.2, 0.32)
    cabin = softened(box(-wide - 0.1, tall * 0.9, wide - 0.1, tall + 0.2), 0.15)
    other: Role = rng.one_of(("second", "second", "shade"))
    parts = [part(other, *fins), part("third", cabin), part("main", hull)]
    style = rng.one_of(("plain", "seams", "seams", "band"))
    if style == "seams":
        seams = [
            ribbon(curve([(-0.95, 0), (-0.1, y), (0.95, 0)], 6), 0.04)
            for y in (-tall * 0.6, 0, tall * 0.6)
        ]
        parts.append(detail("shade", *seams))
    if style == "band":
        parts.append(detail(other, box(-0.2, -1, 0.2, 1)))
    panes = [ellipse(x - 0.1, tall + 0.08, 0.05) for x in (-wide * 0.5, 0, wide * 0.5)]
    return [*parts, part("glass", *panes)]


def tent(rng: Rng) -> list[Part]:
    """A gable without walls, its flaps open, in one or two colours."""
    wide, peak = rng.between(0.85, 1.05), rng.between(0.95, 1.2)
    sag = rng.between(0.04, 0.12)
    slope = curve([(0, -peak * 0.6), (wide * 0.5 - sag, -0.05), (wide, peak * 0.55)], 5)
    body = both_sides(slope)
    gap = wide * rng.between(0.24, 0.42)
    opening = outline((0, -peak * 0.32), (gap, peak * 0.55), (-gap, peak * 0.55))
    flap = outline((0, -peak * 0.32), (gap, peak * 0.55), (gap * 1.5, peak * 0.4))
    parts = [part("main", body)]
    if rng.chance(0.5):
        stripe = [ribbon([(0, -peak * 0.6), (x, peak)], (0.02, 0.16)) for x in (-0.7, 0.7)]
        parts.append(
            detail(rng.one_of(("second", "shade")), *(each * [wide, 1] for each in stripe))
        )
    parts += [detail("dark", opening), detail(rng.one_of(("tint", "second")), flap)]
    if rng.chance(0.4):
        pole = box(-0.03, -peak * 0.98, 0.03, -peak * 0.5)
        pennant = outline((0, -peak * 0.98), (0.28, -peak * 0.88), (0, -peak * 0.78))
        parts.insert(0, part("third", pole, pennant))
    return parts


def ice_cream(rng: Rng) -> list[Part]:
    """Scoops on a cone: round on top and narrow below, as a tree or a mushroom."""
    scoops, mouth = rng.whole(1, 3), rng.between(0.42, 0.52)
    cone = outline((-mouth, 0.05), (mouth, 0.05), (0, 1.15))
    size = rng.between(0.4, 0.5)
    places = {1: [(0.0, -0.22)], 2: [(-0.26, -0.16), (0.28, -0.2)],
              3: [(-0.3, -0.14), (0.3, -0.16), (0.0, -0.56)]}[scoops]  # fmt: skip
    roles: tuple[Role, ...] = (
        "main",
        rng.one_of(("main", "second")),
        rng.one_of(("main", "third")),
    )
    parts = [part("wood", cone)]
    lines = [
        ribbon([(x, -0.2), (x + way * 0.9, 1.2)], 0.035)
        for way in (-1, 1)
        for x in (-0.7, -0.35, 0.0, 0.35, 0.7)
    ]
    parts.append(detail("dark", *lines))
    big = size * (1.15 if scoops == 1 else 1.0)
    for (x, y), role in zip(places, roles, strict=False):
        lobes = 1 + 0.05 * np.cos(np.arange(48) * rng.whole(5, 8) * np.pi / 24)
        parts.append(part(role, moved(rays(lobes * big), x, y)))
    if rng.chance(0.5):
        top = min(y for _, y in places) - big
        parts.append(part("third", ellipse(rng.between(-0.08, 0.08), top, 0.11)))
    return parts


def bucket(rng: Rng) -> list[Part]:
    """Tapered, its rim seen from above, as a cup's; the handle is a bow over it."""
    top, bottom = rng.between(0.66, 0.8), rng.between(0.42, 0.56)
    height, rim = rng.between(1.0, 1.25), rng.between(0.14, 0.2)
    rise = rng.between(0.5, 0.8)
    bow = ribbon(arc(0, 0, top * 0.97, rise, 180, 360, 24), rng.between(0.08, 0.12))
    foot = arc(0, height, bottom, rim * 0.7, 0, 180, 16)
    body = np.concatenate([outline((top, 0)), foot, outline((-top, 0))])
    parts = [part(rng.one_of(("dark", "second")), bow), part("main", body, ellipse(0, 0, top, rim))]
    style = rng.one_of(("plain", "hoops", "hoops"))
    if style == "hoops":
        hoops = [box(-1, height * at, 1, height * (at + 0.09)) for at in (0.25, 0.7)]
        parts.append(detail(rng.one_of(("second", "shade", "dark")), *hoops))
    parts += [
        part("tint", ellipse(0, 0, top, rim)),
        part("shade", ellipse(0, 0.02, top * 0.88, rim * 0.8)),
    ]
    return parts


def fence(rng: Rng) -> list[Part]:
    """Pickets on two rails: a ladder's rungs and rails the other way about."""
    pickets, wide = rng.whole(4, 6), rng.between(0.15, 0.2)
    tall = rng.between(0.5, 0.72)
    point = rng.between(0.06, 0.16)
    boards = []
    for x in np.linspace(-0.9, 0.9, pickets):
        half = wide / 2
        boards.append(
            outline((x - half, tall), (x - half, -tall + point), (x, -tall - point * 0.3),
                    (x + half, -tall + point), (x + half, tall))
        )  # fmt: skip
    rails = [box(-1, y - 0.06, 1, y + 0.06) for y in (-tall * 0.45, tall * 0.5)]
    if rng.chance(0.35):
        return [part(rng.one_of(("second", "shade")), *rails), part("main", *boards)]
    return [part("main", *rails, *boards)]


def sun(rng: Rng) -> list[Part]:
    """A disc with rays around it: a gear with pointed teeth, or a star with a face."""
    count, disc = rng.whole(8, 13), rng.between(0.5, 0.62)
    step, half = 360 / count, rng.between(0.26, 0.36)
    spikes: list[Outline] = []
    for at in range(count):
        middle = at * step
        base = arc(0, 0, disc * 0.94, disc * 0.94, middle - half * step, middle + half * step, 4)
        spikes.append(np.concatenate([base, arc(0, 0, 1, 1, middle, 0, 1)]))
    ray: Role = rng.one_of(("main", "main", "second"))
    parts = [part(ray, *spikes), part("main", ellipse(0, 0, disc))]
    style = rng.one_of(("plain", "face", "face", "ring"))
    if style == "face":
        eyes = [ellipse(x, -0.12, 0.07) for x in (-0.18, 0.18)]
        smile = ribbon(arc(0, 0.02, 0.27, 0.22, 20, 160, 10), 0.07)
        parts.append(part("dark", *eyes, smile))
    if style == "ring":
        parts.append(detail("shade", ellipse(0, 0, disc * 0.7)))
    return parts


def lamp(rng: Rng) -> list[Part]:
    """A shade that widens downwards, as a bell, on a stand."""
    top, wide = rng.between(0.24, 0.4), rng.between(0.6, 0.78)
    tall = rng.between(0.72, 0.95)
    flare = curve([(top, -tall), (top + (wide - top) * 0.4, -tall * 0.45), (wide, 0)], 5)
    shade = both_sides(flare)
    length = rng.between(0.5, 0.75)
    stem = box(-0.06, -0.05, 0.06, length)
    foot = arc(0, length + 0.1, rng.between(0.34, 0.46), 0.18, 180, 360, 14)
    stand: Role = rng.one_of(("second", "dark", "wood"))
    parts = [part(stand, stem, foot), part("main", shade)]
    style = rng.one_of(("plain", "bands", "pleats"))
    if style == "bands":
        bands = [box(-1, -tall * at - 0.1, 1, -tall * at) for at in (0.0, 0.85)]
        parts.append(detail(rng.one_of(("second", "shade")), *bands))
    if style == "pleats":
        pleats = [ribbon([(x * top, -tall), (x * wide, 0)], 0.045) for x in (-0.6, -0.2, 0.2, 0.6)]
        parts.append(detail("shade", *pleats))
    return parts


def paper_boat(rng: Rng) -> list[Part]:
    """Folded from one sheet: a hull with a peak in its middle, as a sail."""
    wide, deep = rng.between(0.92, 1.05), rng.between(0.4, 0.55)
    keel, peak = wide * rng.between(0.5, 0.62), rng.between(0.62, 0.85)
    hull = outline((-wide, 0), (0, 0.22), (wide, 0), (keel, deep), (-keel, deep))
    sail = outline((-keel * 0.72, 0.18), (0, -peak), (keel * 0.72, 0.18))
    parts = [part("main", sail), detail("shade", outline((0, -peak), (2, 1), (0, 1)))]
    parts.append(part(rng.one_of(("main", "main", "tint")), hull))
    parts.append(detail("shade", outline((0, 0.22), (wide, 0), (keel, deep))))
    if rng.chance(0.4):
        parts.append(detail("second", ribbon([(-wide, 0.1), (0, 0.32), (wide, 0.1)], 0.07)))
    return parts


def acorn(rng: Rng) -> list[Part]:
    """A scaly cap with a stalk on a plump nut, as a mushroom's cap on its stem."""
    wide, tall = rng.between(0.72, 0.86), rng.between(0.5, 0.68)
    cap = both_sides(
        curve(
            [(0, -tall), (wide * 0.6, -tall * 0.85), (wide, -0.05), (wide * 0.85, 0.12), (0, 0.16)],
            6,
        )
    )
    plump, length = wide * rng.between(0.8, 0.92), rng.between(0.85, 1.05)
    nut = both_sides(
        curve([(plump, 0), (plump * 0.96, length * 0.45), (plump * 0.5, length * 0.85),
               (0.05, length * 1.05)], 6)
    )  # fmt: skip
    stalk = ribbon([(0, -tall + 0.05), (rng.between(-0.12, 0.12), -tall - 0.28)], 0.12)
    scales = [
        ellipse(x * wide + (0.12 if row % 2 else 0), -tall * (0.15 + 0.25 * row), 0.085)
        for row in range(3)
        for x in (-0.6, -0.3, 0.0, 0.3, 0.6)
    ]
    parts = [part("wood", stalk), part(rng.one_of(("second", "tint", "light")), nut)]
    parts += [part("main", cap), detail("shade", *scales)]
    return parts


def zigzag(rng: Rng) -> list[Part]:
    """A band that turns sharply two to four times, as lightning does, and never thins."""
    turns, thick = rng.whole(2, 4), rng.between(0.24, 0.34)
    swing = rng.between(0.3, 0.5)
    heights = np.linspace(-1, 1, turns + 2)
    knots = [(swing * (1 if at % 2 else -1), float(y)) for at, y in enumerate(heights)]
    pieces = [ribbon(pair, thick, round_ends=True) for pair in pairwise(knots)]
    parts = [part("main", *pieces)]
    style = rng.one_of(("plain", "plain", "core"))
    if style == "core":
        parts.append(
            detail(rng.one_of(("tint", "second")), *(ribbon(p, 0.09) for p in pairwise(knots)))
        )
    return parts
