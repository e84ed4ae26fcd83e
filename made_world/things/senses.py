"""Drawings of kinds that share a name: bats that fly and that hit, cranes with and without wings.

The two of a pair have nothing in common but the name.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from made_world.drawing.outlines import (
    box,
    curve,
    ellipse,
    moved,
    outline,
    ribbon,
    softened,
    turned,
)
from made_world.drawing.parts import Part, Role, detail, part
from made_world.drawing.rng import Rng


def bat_animal(rng: Rng) -> list[Part]:
    """Seen from the front, its wings spread and scalloped below, with ears and eyes."""
    span, lift = rng.between(1.0, 1.2), rng.between(0.28, 0.5)
    scallops, depth = rng.whole(2, 3), rng.between(0.14, 0.24)
    front = curve([(0.1, -0.05), (span * 0.45, -lift), (span * 0.7, -lift * 0.8), (span, 0.02)], 5)
    hem = []
    ends = np.linspace(span, 0.12, scallops + 1)
    for at in range(scallops):
        share = np.linspace(0, 1, 7)[1:]
        x = ends[at] + (ends[at + 1] - ends[at]) * share
        low = 0.02 + 0.36 * (at + share) / scallops
        hem.append(np.stack([x, low - depth * np.sin(np.pi * share)], axis=1))
    wing = np.concatenate([front, *hem])
    size = rng.between(0.2, 0.26)
    head = ellipse(0, -0.24, size)
    ears = [
        outline((way * 0.03, -0.3), (way * size * 0.8, -0.3 - size * 1.7), (way * size, -0.24))
        for way in (-1, 1)
    ]
    trunk = ellipse(0, 0.14, rng.between(0.2, 0.26), 0.4)
    parts = [part("main", wing, wing * [-1, 1])]
    bones = [
        ribbon([(way * 0.1, 0.0), (way * span * reach, low)], (0.05, 0.02))
        for way in (-1, 1)
        for reach, low in ((0.85, -0.05), (0.55, 0.14))
    ]
    parts.append(detail("shade", *bones))
    body: Role = rng.one_of(("main", "shade", "second"))
    parts.append(part(body, *ears, trunk, head))
    eye = rng.between(0.045, 0.065)
    return [*parts, part("light", *(ellipse(x, -0.27, eye) for x in (-0.09, 0.09)))]


def wooden_bat(rng: Rng) -> list[Part]:
    """A club: a thick round end that narrows to a grip with a knob; bands, or tape on the grip."""
    thick, grip = rng.between(0.15, 0.21), rng.between(0.055, 0.075)
    side = curve(
        [(-0.92, grip), (-0.45, grip * 1.1), (0.1, thick * 0.75), (0.6, thick),
         (0.88, thick * 0.92), (1.0, 0.0)], 6
    )  # fmt: skip
    body = np.concatenate([side, (side * [1, -1])[::-1]])
    knob = ellipse(-0.96, 0, 0.075, grip * 1.9)
    parts = [part("main", knob, body)]
    if rng.chance(0.7):
        tape: Role = rng.one_of(("dark", "second", "light"))
        parts.append(detail(tape, box(-0.9, -1, -0.52, 1)))
    if rng.chance(0.6):
        at = rng.between(0.25, 0.5)
        bands = [box(at, -1, at + 0.07, 1), box(at + 0.14, -1, at + 0.18, 1)]
        parts.append(detail(rng.one_of(("second", "shade", "dark")), *bands))
    return parts


def crane_bird(rng: Rng) -> list[Part]:
    """Standing to the right: long legs, a bent neck, a long bill; a leg drawn up sometimes."""
    trunk = ellipse(0, 0, rng.between(0.4, 0.48), rng.between(0.22, 0.28))
    body = moved(turned(trunk, -14), -0.1, 0)
    bend = rng.between(0.1, 0.22)
    neck = curve([(0.18, -0.06), (0.42, -0.2), (0.34 - bend, -0.55), (0.5, -0.82)], 6)
    head = ellipse(0.54, -0.86, 0.12, 0.1)
    bill = outline((0.6, -0.92), (rng.between(0.95, 1.1), -0.82), (0.6, -0.8))
    tail = softened(outline((-0.3, -0.05), (-0.85, 0.16), (-0.72, 0.3), (-0.25, 0.18)), 0.15)
    legs = [ribbon([(-0.12, 0.15), (-0.14, 0.6), (-0.1, 1.0), (0.06, 1.02)], 0.07)]
    if rng.chance(0.35):
        legs.append(ribbon([(0.04, 0.15), (0.22, 0.42), (0.02, 0.56)], 0.07))
    else:
        legs.append(ribbon([(0.04, 0.15), (0.08, 0.6), (0.12, 1.0), (0.28, 1.02)], 0.07))
    legs_role: Role = rng.one_of(("dark", "third"))
    parts = [part(legs_role, *legs), part(rng.one_of(("shade", "second", "dark")), tail)]
    parts += [part(legs_role, bill), part("main", ribbon(neck, (0.17, 0.11)), head, body)]
    parts.append(detail("second", box(0.4, -1.1, 0.72, -0.9)))
    wing = moved(turned(ellipse(0, 0, 0.3, 0.13), -8), -0.2, 0.0)
    if rng.chance(0.75):
        parts.append(detail(rng.one_of(("shade", "tint")), wing))
    return [*parts, part("light", ellipse(0.56, -0.87, 0.035))]


def tower_crane(rng: Rng) -> list[Part]:
    """A lattice mast with a long jib, a counterweight and a load on its rope."""
    wide, jib = rng.between(0.15, 0.2), rng.between(0.85, 1.05)
    top = -0.72
    rails = [box(way * wide / 2 - 0.035, top, way * wide / 2 + 0.035, 1) for way in (-1, 1)]
    rungs = np.linspace(top + 0.1, 0.95, rng.whole(6, 8))
    braces = [ribbon([(-wide / 2, high), (wide / 2, low)], 0.045) for high, low in pairwise(rungs)]
    back = rng.between(0.42, 0.58)
    beams = [box(-back, top - 0.11, jib, top - 0.05), box(-back, top + 0.05, jib, top + 0.11)]
    posts = np.linspace(0.1, jib - 0.02, rng.whole(5, 7))
    beams += [
        ribbon([(left, top - 0.08), (right, top + 0.08)], 0.045) for left, right in pairwise(posts)
    ]
    peak = outline((-0.09, top), (0.0, top - 0.34), (0.09, top))
    stays = [ribbon([(0, top - 0.32), (x, top - 0.06)], 0.04) for x in (jib * 0.85, -back * 0.9)]
    hook = jib * rng.between(0.55, 0.85)
    drop = rng.between(0.15, 0.55)
    rope = box(hook - 0.02, top, hook + 0.02, drop)
    load = box(hook - 0.13, drop, hook + 0.13, drop + rng.between(0.14, 0.24))
    weight = box(-back, top - 0.02, -back + 0.2, top + 0.3)
    foot = box(-wide - 0.06, 0.92, wide + 0.06, 1.02)
    parts = [part("dark", rope, *stays), part("second", load)]
    parts.append(part(rng.one_of(("shade", "dark", "second")), weight, foot))
    parts.append(part("main", *rails, *braces, *beams, peak))
    cab = box(0.02, top + 0.08, 0.2, top + 0.28)
    return [*parts, part("glass", cab)] if rng.chance(0.7) else parts
