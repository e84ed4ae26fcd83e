"""Backgrounds of images: muted textures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from made_world.drawing.colours import BACKGROUND_COLOURS, Colour, muted_colour, rgb_from_lab
from made_world.drawing.noise import Field, cloudy_noise, smooth_noise, soft_step
from made_world.drawing.rng import Rng


@dataclass(frozen=True, eq=False)
class Background:
    """An image without objects: RGB float32 [h, w, 3], its texture's and its colour's name."""

    rgb: NDArray[np.float32]
    texture: str
    colour: str


def background(rng: Rng, height: int, width: int, contrast: float = 1.0) -> Background:
    """A texture in two shades of a colour, or in two colours of a similar lightness.

    Args:
        rng: the image's random choices.
        height: pixels.
        width: pixels.
        contrast: factor of the differences in lightness.
    """
    name = rng.one_of(BACKGROUND_COLOURS)
    base = muted_colour(rng, name)
    texture = rng.one_of(TEXTURES)
    share = _FIELDS[texture](rng, height, width)
    other = _companion(rng, base, texture in _CALM, contrast)
    ends = rgb_from_lab(np.stack([base, (base + other) / 2, other])).astype(np.float32)
    # By way of the mean in L*a*b*, as mixtures in RGB turn grey.
    lower, upper = np.clip(share * 2, 0, 1)[..., None], np.clip(share * 2 - 1, 0, 1)[..., None]
    rgb = ends[0] + lower * (ends[1] - ends[0]) + upper * (ends[2] - ends[1])
    unevenness = cloudy_noise(rng, height, width, cells=3, octaves=3) - 0.5
    rgb *= 1 + (contrast * rng.between(0.03, 0.22) * unevenness)[..., None]
    return Background(np.clip(rgb, 0, 1), texture, name)


def _companion(rng: Rng, base: Colour, strong: bool, contrast: float) -> Colour:
    """The other colour: mostly the same, lighter or darker; else a neighbour."""
    low, high = (12, 26) if strong else (7, 18)
    step = contrast * rng.between(low, high) * (-1 if base[0] > rng.between(30, 80) else 1)
    if rng.chance(0.65):
        return np.array([base[0] + step, *(rng.between(0.7, 1.3) * base[1:])])
    other = muted_colour(rng, rng.one_of(BACKGROUND_COLOURS))
    return np.array([base[0] + step * 0.7, *(0.7 * other[1:] + 0.3 * base[1:])])


def _axes(rng: Rng, height: int, width: int, bend: float) -> tuple[Field, Field]:
    """Turned coordinates, 1 over the longer side, bent by smooth noise."""
    size, angle = max(height, width), np.radians(rng.between(0, 180))
    x = (np.arange(width, dtype=np.float32)[None, :] - width / 2) / size
    y = (np.arange(height, dtype=np.float32)[:, None] - height / 2) / size
    along = np.cos(angle) * x + np.sin(angle) * y
    across = np.cos(angle) * y - np.sin(angle) * x
    if bend:
        along = along + bend * (smooth_noise(rng, height, width, 3) - 0.5)
        across = across + bend * (smooth_noise(rng, height, width, 3) - 0.5)
    return along.astype(np.float32), across.astype(np.float32)


def _plain(rng: Rng, height: int, width: int) -> Field:
    return np.float32(0.35) * cloudy_noise(rng, height, width, 4, 3)


def _gradient(rng: Rng, height: int, width: int) -> Field:
    along, across = _axes(rng, height, width, 0.2)
    if rng.chance(0.35):
        return soft_step(np.hypot(along, across), 0.35, 0.9)
    return soft_step(along, 0, 1.4)


def _clouds(rng: Rng, height: int, width: int) -> Field:
    return soft_step(cloudy_noise(rng, height, width, rng.whole(3, 6), 4), 0.5, 0.6)


def _stripes(rng: Rng, height: int, width: int) -> Field:
    along, _ = _axes(rng, height, width, rng.between(0, 0.08))
    waves = np.sin(along * 2 * np.pi * rng.between(3, 9))
    return soft_step(waves, rng.between(-0.5, 0.5), rng.between(0.5, 1.4))


def _checks(rng: Rng, height: int, width: int) -> Field:
    along, across = _axes(rng, height, width, rng.between(0, 0.05))
    often = np.pi * rng.between(4, 9)
    product = np.sin(along * often) * np.sin(across * often)
    if rng.chance(0.4):  # a tablecloth: bands that cross
        bands = soft_step(np.sin(along * often), 0, 0.4) + soft_step(np.sin(across * often), 0, 0.4)
        return np.float32(0.5) * bands
    return soft_step(product, 0, rng.between(0.15, 0.5))


def _dots(rng: Rng, height: int, width: int) -> Field:
    along, across = _axes(rng, height, width, rng.between(0, 0.04))
    often, size = rng.between(6, 12), rng.between(0.16, 0.3)
    row = np.floor(across * often)
    x = (along * often + 0.5 * (row % 2)) % 1 - 0.5
    y = (across * often) % 1 - 0.5
    return 1 - soft_step(np.hypot(x, y), size, 0.16)


def _waves(rng: Rng, height: int, width: int) -> Field:
    along, across = _axes(rng, height, width, 0.03)
    swing = rng.between(0.02, 0.06) * np.sin(across * 2 * np.pi * rng.between(2, 5))
    return soft_step(np.sin((along + swing) * 2 * np.pi * rng.between(4, 9)), 0, 1.2)


def _blobs(rng: Rng, height: int, width: int) -> Field:
    """Lights out of focus."""
    size = max(height, width)
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    total = 0.25 * smooth_noise(rng, height, width, 3)
    for _ in range(rng.whole(5, 10)):
        radius = size * rng.between(0.05, 0.18)
        away = (x - rng.between(0, width)) ** 2 + (y - rng.between(0, height)) ** 2
        total += rng.between(0.25, 0.6) * np.exp(-((away / radius**2) ** 2), dtype=np.float32)
    return np.asarray(np.clip(total, 0, 1), dtype=np.float32)


def _paper(rng: Rng, height: int, width: int) -> Field:
    grain = rng.field(height, width)
    fibres = smooth_noise(rng, height, width, max(height, width) // 3)
    spots = cloudy_noise(rng, height, width, 5, 2)
    return np.asarray(0.5 * spots + 0.25 * grain + 0.25 * fibres, dtype=np.float32)


def _tiles(rng: Rng, height: int, width: int) -> Field:
    """Bricks or square tiles with joints, each of a shade of its own."""
    along, across = _axes(rng, height, width, 0)
    often, long = rng.between(5, 9), rng.one_of((1.0, 1.0, 2.0))
    row = np.floor(across * often)
    x = along * often / long + (0.5 * (row % 2) if long > 1 else 0)
    column, y = np.floor(x), across * often - row
    edge = np.minimum(np.minimum(x - column, 1 - x + column) * long, np.minimum(y, 1 - y))
    shades = rng.field(31, 31)[row.astype(int) % 31, column.astype(int) % 31]
    return np.asarray((0.35 + 0.45 * shades) * soft_step(edge, 0.07, 0.1), dtype=np.float32)


def _hills(rng: Rng, height: int, width: int) -> Field:
    """Ridges one behind the other, the nearest the darkest or the brightest."""
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    total = 0.12 * np.broadcast_to(y, (height, width))
    layers = rng.whole(2, 4)
    for at in range(layers):
        ridge = 0.28 + 0.6 * at / layers + 0.2 * (smooth_noise(rng, 8, width, 4)[:1] - 0.5)
        total = total + 0.88 / layers * soft_step(y - ridge, 0, 2.5 / height)
    return np.asarray(total, dtype=np.float32)


def _marble(rng: Rng, height: int, width: int) -> Field:
    along, _ = _axes(rng, height, width, rng.between(0.25, 0.5))
    veins = np.sin(along * 2 * np.pi * rng.between(3, 6))
    return np.asarray(0.5 + 0.5 * veins, dtype=np.float32)


_FIELDS: Final[dict[str, Callable[[Rng, int, int], Field]]] = {
    "plain": _plain,
    "gradient": _gradient,
    "clouds": _clouds,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "waves": _waves,
    "blobs": _blobs,
    "paper": _paper,
    "tiles": _tiles,
    "hills": _hills,
    "marble": _marble,
}
TEXTURES: Final[tuple[str, ...]] = tuple(_FIELDS)
_CALM: Final = frozenset({"gradient", "clouds", "blobs", "hills"})
