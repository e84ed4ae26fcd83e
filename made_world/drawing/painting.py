"""Colouring of objects: texture of the material, light, and outline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from made_world.drawing.colours import Colour
from made_world.drawing.cutouts import Cutout
from made_world.drawing.noise import Field, cloudy_noise, soft_step
from made_world.drawing.parts import Role
from made_world.drawing.rng import Rng

TEXTURES: Final = ("plain", "gradient", "striped", "spotted", "mottled", "checked")
# Fine patterns would hide the decoration that parts have of their own.
_OFTEN: Final = ("plain", "plain", "gradient", *TEXTURES)
_ON_THIN: Final = ("plain", "plain", "gradient", "mottled")


@dataclass(frozen=True)
class Light:
    """How an image is lit.

    Attributes:
        towards: angle in degrees in the image where the light comes from.
        relief: how strongly edges are modelled, 0 for flat colours.
        falloff: how much darker the side is that is turned away, as a share.
        gloss: strength of highlights.
        shadow: darkness of the shadows that objects cast, as a share.
        reach: how far the shadows fall, as a share of the object's side.
    """

    towards: float
    relief: float
    falloff: float
    gloss: float
    shadow: float
    reach: float


def drawn_light(rng: Rng) -> Light:
    """Light of an image: flat as in a print, soft, or strong."""
    towards = rng.between(195, 345)
    style = rng.one_of(("flat", "soft", "soft", "strong"))
    relief = {"flat": 0.0, "soft": rng.between(0.25, 0.55), "strong": rng.between(0.6, 1.0)}
    return Light(
        towards=towards,
        relief=relief[style],
        falloff=0.0 if style == "flat" else rng.between(0.08, 0.3),
        gloss=0.0 if style == "flat" else rng.between(0, 0.35),
        shadow=rng.one_of((0.0, rng.between(0.15, 0.3), rng.between(0.25, 0.45))),
        reach=rng.between(0.03, 0.1),
    )


def drawn_texture(rng: Rng, thin: bool) -> str:
    """The name of an object's texture; one without a pattern for a thin object."""
    return rng.one_of(_ON_THIN if thin else _OFTEN)


def painted(
    cutout: Cutout, colours: Mapping[Role, Colour], texture: str, light: Light, rng: Rng
) -> NDArray[np.float32]:
    """RGB float32 [h, w, 3], 0 to 1, of an object, to be laid on with its coverage."""
    premultiplied = np.zeros((*cutout.coverage.shape, 3), dtype=np.float32)
    opacity = np.full(cutout.coverage.shape, 1e-4, dtype=np.float32)
    pattern = _pattern(cutout, texture, rng)
    other = colours[_pattern_role(texture, rng)].astype(np.float32)
    strength = rng.between(0.6, 1.0)
    for role, coverage in cutout.layers:
        fill = colours[role].astype(np.float32)
        paint = fill + (strength * pattern)[..., None] * (other - fill) if role == "main" else fill
        premultiplied += coverage[..., None] * (paint - premultiplied)
        opacity += coverage * (1 - opacity)
    rgb = np.asarray(premultiplied / opacity[..., None], dtype=np.float32)
    if cutout.lines is not None:
        pen = colours["dark"].astype(np.float32)
        # Where there is a line only, there is nothing below it to mix with.
        share = np.maximum(cutout.lines, 1 - np.minimum(opacity, 1))
        rgb += share[..., None] * (pen - rgb)
    return np.clip(_lit(rgb, cutout, light), 0, 1)


def _pattern_role(texture: str, rng: Rng) -> Role:
    if texture in {"gradient", "mottled"}:
        return rng.one_of(("shade", "tint"))
    return rng.one_of(("shade", "tint", "second"))


def _pattern(cutout: Cutout, texture: str, rng: Rng) -> Field:
    """Where the texture's other colour is, 0 to 1."""
    turn = np.radians(rng.between(0, 180))
    along = np.cos(turn) * cutout.across + np.sin(turn) * cutout.down
    across = np.cos(turn) * cutout.down - np.sin(turn) * cutout.across
    often = rng.between(2.2, 4.5)
    # About a pixel and a half of the pattern's own period, so that edges aren't jagged.
    blur = 6.0 * often / max(cutout.coverage.shape)
    if texture == "striped":
        return soft_step(np.sin(along * often * np.pi), rng.between(-0.2, 0.4), blur)
    if texture == "checked":
        waves = np.sin(along * often * np.pi) * np.sin(across * often * np.pi)
        return soft_step(waves, 0, blur)
    if texture == "spotted":
        row = np.floor(across * often)
        x = (along * often + 0.5 * (row % 2)) % 1 - 0.5
        y = (across * often) % 1 - 0.5
        return 1 - soft_step(np.hypot(x, y), rng.between(0.2, 0.34), blur / 3)
    if texture == "gradient":
        return soft_step(along, 0, 2.2)
    if texture == "mottled":
        noise = cloudy_noise(rng, *_size(cutout), 6, 2)
        return soft_step(noise, 0.5, 0.5)
    return np.zeros_like(cutout.coverage)


def _lit(rgb: NDArray[np.float32], cutout: Cutout, light: Light) -> NDArray[np.float32]:
    if light.relief == 0:
        return rgb
    height, width = _size(cutout)
    size = max(height, width)
    angle = np.radians(light.towards)
    to_x, to_y = float(np.cos(angle)), float(np.sin(angle))
    swell = gaussian_filter(cutout.coverage, size * 0.05, mode="constant")
    slope_y, slope_x = np.gradient(swell)
    # The slope of the blurred silhouette points inwards: an edge that faces the light is bright.
    facing = -(slope_x * to_x + slope_y * to_y) * size * 0.22
    relief = light.relief * 0.42 * np.clip(facing, -1, 1)
    x = (np.arange(width, dtype=np.float32) + 0.5) / size - 0.5 * width / size
    y = (np.arange(height, dtype=np.float32) + 0.5) / size - 0.5 * height / size
    distance = x[None, :] * to_x + y[:, None] * to_y
    lit = rgb * (1 + relief + light.falloff * distance * 1.3)[..., None]
    if light.gloss:
        spot = (x[None, :] - 0.2 * to_x) ** 2 + (y[:, None] - 0.2 * to_y) ** 2
        shine = light.gloss * np.exp(-spot / 0.012, dtype=np.float32) * swell
        lit += shine[..., None] * (1 - lit)
    return np.asarray(lit, dtype=np.float32)


def _size(cutout: Cutout) -> tuple[int, int]:
    height, width = cutout.coverage.shape
    return height, width
