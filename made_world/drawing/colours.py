"""Named colours, colour differences (CIE L*a*b*), and palettes that stand out.

RGB is 0 to 1, sRGB, in the last dimension; L*a*b* for the white point D65.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from made_world.drawing.parts import Role
from made_world.drawing.rng import Rng

Colour = NDArray[np.float64]

# Ranges of lightness, chroma and hue (degrees) within which a person would use the name.
_STRONG: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "red": ((41, 53), (58, 78), (26, 38)),
    "orange": ((63, 72), (64, 84), (56, 68)),
    "yellow": ((81, 90), (64, 88), (85, 96)),
    "green": ((44, 64), (42, 66), (130, 150)),
    "turquoise": ((60, 75), (32, 44), (186, 206)),
    "blue": ((36, 56), (44, 64), (266, 288)),
    "purple": ((33, 48), (46, 64), (306, 320)),
    "pink": ((66, 77), (38, 54), (346, 366)),
    "brown": ((29, 40), (25, 36), (50, 66)),
    "white": ((92, 97), (0, 4), (60, 120)),
    "black": ((9, 20), (0, 5), (240, 300)),
    "grey": ((46, 64), (0, 4), (240, 300)),
}
_MUTED: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "grey": ((35, 84), (0, 4), (0, 360)),
    "beige": ((72, 90), (8, 18), (70, 92)),
    "brown": ((28, 48), (14, 26), (52, 72)),
    "green": ((34, 82), (12, 28), (126, 160)),
    "blue": ((32, 84), (12, 30), (248, 284)),
    "turquoise": ((45, 84), (10, 24), (186, 212)),
    "purple": ((30, 78), (12, 28), (302, 324)),
    "pink": ((66, 86), (12, 26), (348, 374)),
    "red": ((32, 50), (24, 38), (22, 36)),
    "orange": ((62, 80), (22, 38), (58, 72)),
    "yellow": ((80, 92), (22, 42), (86, 98)),
    "white": ((90, 96), (0, 5), (60, 100)),
    "black": ((10, 24), (0, 7), (240, 300)),
}

COLOURS: Final[tuple[str, ...]] = tuple(_STRONG)
BACKGROUND_COLOURS: Final[tuple[str, ...]] = tuple(_MUTED)

_WHITE_POINT: Final = np.array([0.95047, 1.0, 1.08883])
_TO_XYZ: Final = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175],
     [0.0193339, 0.119192, 0.9503041]]
)  # fmt: skip
_FROM_XYZ: Final = np.linalg.inv(_TO_XYZ)

# Windows: the sky in them, lit from within, dark.
_GLASS: Final = ((82.0, -8.0, -14.0), (88.0, 0.0, 34.0), (32.0, 0.0, -12.0))

_WEIGHTS: Final = np.array([1.25, 0.75, 0.75])
STANDS_OUT: Final = 36.0
"""Difference of an object's main colour from its surroundings that is sought, at least."""
_IS_SEEN, _IS_MADE_OUT = 20.0, 12.0  # the same of other colours, and of what lies about


def lab_from_rgb(rgb: ArrayLike) -> Colour:
    """L*a*b* of colours [..., 3]."""
    values = np.asarray(rgb, dtype=np.float64)
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    xyz = linear @ _TO_XYZ.T / _WHITE_POINT
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def rgb_from_lab(lab: ArrayLike) -> Colour:
    """The nearest colours [..., 3] that a screen can show, channel by channel."""
    values = np.asarray(lab, dtype=np.float64)
    y = (values[..., 0] + 16) / 116
    root = np.stack([y + values[..., 1] / 500, y, y - values[..., 2] / 200], axis=-1)
    xyz = np.where(root > 0.206893, root**3, (root - 16 / 116) / 7.787) * _WHITE_POINT
    linear = np.clip(xyz @ _FROM_XYZ.T, 0, 1)
    bright = 1.055 * linear ** (1 / 2.4) - 0.055
    return np.asarray(np.where(linear > 0.0031308, bright, linear * 12.92))


def named_colour(rng: Rng, name: str) -> Colour:
    """L*a*b* of one of the colours that go by the name, as objects have them."""
    return _within(rng, _STRONG[name])


def muted_colour(rng: Rng, name: str) -> Colour:
    """L*a*b* of one of the colours that go by the name, as backgrounds have them."""
    return _within(rng, _MUTED[name])


def _within(rng: Rng, ranges: tuple[tuple[float, float], ...]) -> Colour:
    lightness, chroma, hue = (rng.between(*each) for each in ranges)
    angle = np.radians(hue)
    return np.array([lightness, chroma * np.cos(angle), chroma * np.sin(angle)])


def difference(colour: Colour, others: Colour) -> float:
    """How different the colour is from the quarter of the others that is nearest to it.

    Lightness counts for more than in CIE76: dark blue on black is far off by that and hard to see.
    """
    apart = (others - colour) * _WEIGHTS
    return float(np.quantile(np.linalg.norm(apart, axis=-1), 0.25))


def palette(
    rng: Rng,
    favourites: Sequence[str],
    around: Colour,
    neighbours: Sequence[Colour] = (),
    least: float = STANDS_OUT,
) -> tuple[str, Mapping[Role, Colour]]:
    """Colours for an object's parts that stand out from its surroundings.

    Args:
        rng: the object's random choices.
        favourites: names that its kind has more often than others.
        around: L*a*b* [n, 3] of its surroundings.
        neighbours: RGB of the main colours of objects beside it.
        least: difference of the main colour that is sought.

    Returns:
        The name of the main colour, and RGB by role.
    """
    # As many of each as count in `difference`.
    others = [np.tile(lab_from_rgb(colour), (len(around), 1)) for colour in neighbours]
    name, main = _unlike(rng, np.concatenate([around, *others]), favourites, least)
    _, second = _unlike(rng, np.concatenate([around, np.tile(main, (len(around), 1))]), (), 34)
    seen = np.stack([main, second])
    _, third = _unlike(rng, seen, (), 34)
    return name, _by_role(rng, main, second, third, around)


def muted_palette(rng: Rng, around: Colour) -> tuple[str, Mapping[Role, Colour]]:
    """Colours for what lies about: a background's, which can be made out and no more.

    Args and results as for `palette`.
    """
    for _ in range(8):
        name = rng.one_of(BACKGROUND_COLOURS)
        main = muted_colour(rng, name)
        if difference(main, around) >= _IS_MADE_OUT:
            break
    second = muted_colour(rng, rng.one_of(BACKGROUND_COLOURS))
    return name, _by_role(rng, main, second, second, around)


def _by_role(
    rng: Rng, main: Colour, second: Colour, third: Colour, around: Colour
) -> Mapping[Role, Colour]:
    """RGB by role, from L*a*b* of the three that were chosen."""
    step = rng.between(11, 17)
    lab: dict[Role, Colour] = {
        "main": main,
        "shade": _lighter(main, -step if main[0] > 25 else step),
        "tint": _lighter(main, min(step, 98 - main[0]) if main[0] < 90 else -0.6 * step),
        "second": second,
        "third": third,
        "dark": np.array([rng.between(14, 28), *(0.15 * main[1:])]),
        "light": np.array([rng.between(88, 96), rng.between(-2, 3), rng.between(0, 12)]),
        "wood": _within(rng, ((30, 46), (22, 34), (52, 68))),
        "glass": np.array(rng.one_of(_GLASS)),
    }
    for role in ("dark", "light", "wood", "second"):
        lab[role] = _kept_apart(lab[role], around)
    return {role: rgb_from_lab(colour) for role, colour in lab.items()}


def _unlike(
    rng: Rng, others: Colour, favourites: Sequence[str], least: float
) -> tuple[str, Colour]:
    """The first colour drawn that is different enough from the others, or the most different."""
    best, best_name, best_difference = np.zeros(3), "", -1.0
    for attempt in range(14):
        favoured = favourites and attempt < 2 and rng.chance(0.55)
        name = rng.one_of(favourites) if favoured else rng.one_of(COLOURS)
        colour = named_colour(rng, name)
        apart = difference(colour, others)
        if apart > best_difference:
            best, best_name, best_difference = colour, name, apart
        if apart >= least:
            break
    return best_name, best


def _kept_apart(colour: Colour, around: Colour) -> Colour:
    """The colour, made lighter or darker until it can be seen."""
    away = 1.0 if colour[0] >= np.mean(around[:, 0]) else -1.0
    for step in (*range(0, 42, 7), *range(-7, -70, -7)):
        moved = _lighter(colour, away * step)
        if 6 <= moved[0] <= 97 and difference(moved, around) >= _IS_SEEN:
            return moved
    return colour


def _lighter(colour: Colour, step: float) -> Colour:
    return np.array([colour[0] + step, colour[1], colour[2]])
