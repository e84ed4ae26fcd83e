"""Images of the made world: objects on a background, with an exact mask of each object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from made_world.drawing.colours import Colour, lab_from_rgb, palette
from made_world.drawing.cutouts import Cutout, Pose, cut_out
from made_world.drawing.painting import Light, drawn_light, drawn_texture, painted
from made_world.drawing.rng import Rng
from made_world.scenes.backgrounds import Background, background
from made_world.scenes.placing import Arrangement, Place, place
from made_world.things.distractors import add_distractors
from made_world.things.kinds import KINDS, kind_named

_CORPUS_STREAM, _SCENE_STREAM = 1, 2
_SHORTEST, _SHORTEST_SCENE, _LONGEST = 96, 136, 160
# Objects thinner than this would be lost as soon as something is in front of them.
_LEAST_AREA: Final = 120
_THIN_LEAST: Final = 0.32


@dataclass(frozen=True, eq=False)
class MadeObject:
    """An object in an image.

    Attributes:
        kind: what it is.
        mask: bool [h, w]; its visible pixels.
        colour: name of its main colour.
        texture: name of its surface.
        size: the longer side of its box, hidden parts included, over the image's shorter side.
        visible: the share of its pixels that is neither hidden nor outside the image.
    """

    kind: str
    mask: NDArray[np.bool_]
    colour: str
    texture: str
    size: float
    visible: float


@dataclass(frozen=True, eq=False)
class MadeImage:
    """An image and its objects.

    Attributes:
        pixels: uint8 [h, w, 3], RGB.
        objects: back to front; each has visible pixels.
        background: name of the background's texture.
        background_colour: name of its colour.
    """

    pixels: NDArray[np.uint8]
    objects: tuple[MadeObject, ...]
    background: str
    background_colour: str


@dataclass(frozen=True, eq=False)
class _Sprite:
    """An object before it is coloured."""

    kind: str
    cutout: Cutout
    size: float


@dataclass(frozen=True, eq=False)
class _Look:
    """An object as it was coloured and put into an image; `main` is RGB."""

    kind: str
    colour: str
    texture: str
    size: float
    at: Place
    main: Colour


def corpus_image(seed: int, number: int, kinds: Sequence[str] = KINDS) -> MadeImage:
    """An image of an unlabelled corpus: mostly of one object, some of none or a few.

    The longest side of a lone object's box is 0.2 to 0.6 of the image's shorter side. The
    image depends on the arguments alone.

    Raises:
        ValueError: a kind is unknown, there is none, or a number is negative.
    """
    _check(kinds)
    rng = Rng(seed, number, _CORPUS_STREAM)
    size = _image_size(rng, _SHORTEST)
    lot = rng.between(0, 1)
    count = 0 if lot < 0.07 else 1 if lot < 0.87 else 2 if lot < 0.96 else 3
    sides = [0.24 + 0.36 * rng.between(0, 1) ** 0.6 for _ in range(count)]
    if count > 1:
        sides = [min(side, 0.46) for side in sides]
    sprites = [_sprite(rng, rng.one_of(kinds), side, size) for side in sides]
    return _composed(rng, size, sprites, scene=False)


def scene_image(seed: int, number: int, kinds: Sequence[str] = KINDS) -> MadeImage:
    """An image of 2 to 6 objects of different sizes that partly hide each other.

    At least 30 % and 60 pixels of each can be seen. The image depends on the arguments alone.

    Raises:
        ValueError: a kind is unknown, there is none, or a number is negative.
    """
    _check(kinds)
    rng = Rng(seed, number, _SCENE_STREAM)
    size = _image_size(rng, _SHORTEST_SCENE)
    count = rng.one_of((2, 2, 3, 3, 3, 4, 4, 5, 6))
    largest = {2: 0.66, 3: 0.6, 4: 0.54, 5: 0.48, 6: 0.44}[count]
    sides = [rng.between(0.3, largest) for _ in range(count)]
    if rng.chance(0.7):
        sides.sort(reverse=True)
    sprites = [_sprite(rng, rng.one_of(kinds), side, size) for side in sides]
    return _composed(rng, size, sprites, scene=True)


def _check(kinds: Sequence[str]) -> None:
    if not kinds:
        raise ValueError("The list of kinds to draw must not be empty.")
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"The kinds to draw must differ from each other, got {', '.join(kinds)}.")
    for kind in kinds:
        kind_named(kind)


def _image_size(rng: Rng, shortest: int) -> tuple[int, int]:
    height = rng.whole(shortest, _LONGEST)
    width = height if rng.chance(0.35) else rng.whole(shortest, _LONGEST)
    return height, width


def _sprite(rng: Rng, name: str, share: float, size: tuple[int, int]) -> _Sprite:
    kind = kind_named(name)
    parts = kind.draw(rng)
    side = max(share, _THIN_LEAST if kind.thin else 0) * min(size)
    pose = Pose(
        angle=rng.between(-kind.tilt, kind.tilt),
        flipped=rng.chance(0.5),
        stretch=rng.between(0.88, 1.14),
        side=side,
        line=side * rng.between(0.018, 0.035) if rng.chance(0.25) else 0.0,
    )
    cutout = cut_out(parts, pose)
    while cutout.mask.sum() < _LEAST_AREA:
        side *= 1.15
        pose = Pose(pose.angle, pose.flipped, pose.stretch, side, pose.line)
        cutout = cut_out(parts, pose)
    return _Sprite(name, cutout, side / min(size))


def _composed(
    rng: Rng,
    size: tuple[int, int],
    sprites: Sequence[_Sprite],
    scene: bool,
) -> MadeImage:
    behind = background(rng, *size)
    canvas = behind.rgb
    add_distractors(rng, canvas, 2 if sprites else 4)
    light = drawn_light(rng)
    arrangement = Arrangement(size, centred=not scene)
    looks: list[_Look] = []
    for sprite in sprites:
        beyond = rng.between(0.05, 0.25) if rng.chance(0.12) else 0.0
        corner = arrangement.add(rng, sprite.cutout.mask, 0.2, beyond)
        if corner is not None:
            looks.append(_lay_on(rng, canvas, sprite, corner, light, looks))
    objects = tuple(
        MadeObject(look.kind, mask, look.colour, look.texture, look.size, float(mask.sum()) / whole)
        for look, mask, whole in zip(looks, arrangement.visible, arrangement.whole, strict=True)
    )
    return _finished(rng, behind, canvas, objects)


def _lay_on(
    rng: Rng,
    canvas: NDArray[np.float32],
    sprite: _Sprite,
    corner: tuple[int, int],
    light: Light,
    others: Sequence[_Look],
) -> _Look:
    """Colour an object unlike its surroundings, and put it and its shadow on the canvas."""
    cutout, size = sprite.cutout, (canvas.shape[0], canvas.shape[1])
    at = place(*corner, cutout.coverage.shape, size)
    kind = kind_named(sprite.kind)
    near = [other.main for other in others if at.touches(other.at)]
    name, colours = palette(rng, kind.colours, _seen_around(canvas[at.in_image]), near)
    texture = drawn_texture(rng, kind.thin)
    rgb = painted(cutout, colours, texture, light, rng)
    if light.shadow:
        _cast_shadow(canvas, cutout, corner, light)
    share = cutout.coverage[at.in_box][..., None]
    region = canvas[at.in_image]
    region += share * (rgb[at.in_box] - region)
    return _Look(sprite.kind, name, texture, sprite.size, at, colours["main"])


def _seen_around(region: NDArray[np.float32]) -> Colour:
    """L*a*b* [n, 3] of some 50 pixels spread over a region."""
    rows, columns = (max(1, length // 7) for length in region.shape[:2])
    return lab_from_rgb(region[rows // 2 :: rows, columns // 2 :: columns].reshape(-1, 3))


def _cast_shadow(
    canvas: NDArray[np.float32], cutout: Cutout, corner: tuple[int, int], light: Light
) -> None:
    length = max(cutout.coverage.shape)
    blur = 0.8 + 0.035 * length
    margin = int(np.ceil(3 * blur))
    soft = gaussian_filter(np.pad(cutout.coverage, margin), blur)
    angle, reach = np.radians(light.towards + 180), light.reach * length
    top = corner[0] - margin + round(reach * float(np.sin(angle)))
    left = corner[1] - margin + round(reach * float(np.cos(angle)))
    at = place(top, left, soft.shape, (canvas.shape[0], canvas.shape[1]))
    canvas[at.in_image] *= 1 - light.shadow * soft[at.in_box][..., None]


def _finished(
    rng: Rng,
    behind: Background,
    canvas: NDArray[np.float32],
    objects: tuple[MadeObject, ...],
) -> MadeImage:
    """With the light, vignette and grain of a camera."""
    height, width = canvas.shape[:2]
    canvas *= rng.between(0.9, 1.06)
    if rng.chance(0.4):
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
        canvas *= (1 - rng.between(0.05, 0.22) * (x**2 + y**2) / 2)[..., None].astype(np.float32)
    if rng.chance(0.6):
        canvas += rng.between(0.01, 0.06) * (rng.field(height, width, 1) - 0.5)
    pixels = (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
    return MadeImage(pixels, objects, behind.texture, behind.colour)
