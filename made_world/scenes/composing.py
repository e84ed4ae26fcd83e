"""Composition of an image: a background, objects laid on it one by one, light and grain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from made_world.drawing.colours import (
    STANDS_OUT,
    Colour,
    lab_from_rgb,
    muted_palette,
    palette,
)
from made_world.drawing.cutouts import Cutout, Pose, cut_out
from made_world.drawing.painting import Light, drawn_light, drawn_texture, painted
from made_world.drawing.rng import Rng
from made_world.scenes.backgrounds import Background
from made_world.scenes.placing import LEAST_INSIDE, Arrangement, Place, place
from made_world.things.kinds import CLUTTER, kind_named

# Objects thinner than this would be lost as soon as something is in front of them.
LEAST_AREA: Final = 120
THIN_LEAST: Final = 0.32
_LONGEST: Final = 160


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
class Sprite:
    """An object before it is coloured.

    Attributes:
        kind: what it is.
        cutout: its drawing.
        size: as for `MadeObject`.
    """

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


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise ValueError if there is no kind, one twice, or one that is unknown."""
    if not kinds:
        raise ValueError("The list of kinds to draw must not be empty.")
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"The kinds to draw must differ from each other, got {', '.join(kinds)}.")
    for kind in kinds:
        kind_named(kind)


def drawn_size(rng: Rng, shortest: int) -> tuple[int, int]:
    """(height, width) of an image, each from `shortest` to 160 pixels."""
    height = rng.whole(shortest, _LONGEST)
    width = height if rng.chance(0.35) else rng.whole(shortest, _LONGEST)
    return height, width


def drawn_sprite(
    rng: Rng,
    name: str,
    share: float,
    size: tuple[int, int],
    thin_least: float = THIN_LEAST,
    least_area: int = LEAST_AREA,
) -> Sprite:
    """An object of a kind, in one of its shapes and poses.

    Args:
        rng: the image's random choices.
        name: of its kind.
        share: the longer side of its box over the image's shorter side.
        size: (height, width) of the image.
        thin_least: `share` of a thin one, at least.
        least_area: pixels that it covers; where it would cover fewer it is drawn larger.
    """
    kind = kind_named(name)
    parts = kind.draw(rng)
    side = max(share, thin_least if kind.thin else 0) * min(size)
    pose = Pose(
        angle=rng.between(-kind.tilt, kind.tilt),
        flipped=rng.chance(0.5),
        stretch=rng.between(0.88, 1.14),
        side=side,
        line=side * rng.between(0.018, 0.035) if rng.chance(0.25) else 0.0,
    )
    cutout = cut_out(parts, pose)
    while cutout.mask.sum() < least_area:
        side *= 1.15
        pose = Pose(pose.angle, pose.flipped, pose.stretch, side, pose.line)
        cutout = cut_out(parts, pose)
    return Sprite(name, cutout, side / min(size))


class Composition:
    """An image in the making. Random choices come in the order of the calls."""

    def __init__(self, rng: Rng, behind: Background, centred: bool) -> None:
        """Light a background, whose pixels are painted over.

        Args:
            rng: the image's random choices.
            behind: the background, with its distractors.
            centred: whether objects are nearer the middle than the edges.
        """
        self._rng, self._behind, self._canvas = rng, behind, behind.rgb
        self._light = drawn_light(rng)
        height, width = behind.rgb.shape[:2]
        self._arrangement = Arrangement((height, width), centred=centred)
        self._looks: list[_Look] = []

    def add(
        self,
        sprite: Sprite,
        *,
        crowding: float,
        beyond: float,
        inside: float = LEAST_INSIDE,
        stands_out: float = STANDS_OUT,
    ) -> None:
        """Lay an object in front of all others; where there is no room for it, none is.

        Args:
            sprite: the object. What is clutter has muted colours, and may be hidden by others.
            crowding, beyond, inside: see `Arrangement.add`.
            stands_out: least difference of its colour from its surroundings that is sought.
        """
        lies_about = sprite.kind in CLUTTER
        corner = self._arrangement.add(
            self._rng, sprite.cutout.mask, crowding, beyond, inside, lasting=not lies_about
        )
        if corner is not None:
            self._looks.append(self._lay_on(sprite, corner, stands_out))

    def finished(self) -> MadeImage:
        """The image, with the vignette and grain of a camera."""
        rng, canvas = self._rng, self._canvas
        height, width = canvas.shape[:2]
        canvas *= rng.between(0.9, 1.06)
        if rng.chance(0.4):
            y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
            dark = rng.between(0.05, 0.22) * (x**2 + y**2) / 2
            canvas *= (1 - dark)[..., None].astype(np.float32)
        if rng.chance(0.6):
            canvas += rng.between(0.01, 0.06) * (rng.field(height, width, 1) - 0.5)
        pixels = (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
        return MadeImage(pixels, self._objects(), self._behind.texture, self._behind.colour)

    def _objects(self) -> tuple[MadeObject, ...]:
        arranged = self._arrangement
        return tuple(
            MadeObject(
                look.kind, mask, look.colour, look.texture, look.size, float(mask.sum()) / whole
            )
            for look, mask, whole in zip(self._looks, arranged.visible, arranged.whole, strict=True)
            if mask.any()
        )

    def _lay_on(self, sprite: Sprite, corner: tuple[int, int], stands_out: float) -> _Look:
        """Colour an object unlike its surroundings, and put it and its shadow on the canvas."""
        rng, canvas, cutout = self._rng, self._canvas, sprite.cutout
        at = place(*corner, cutout.coverage.shape, (canvas.shape[0], canvas.shape[1]))
        kind, around = kind_named(sprite.kind), _seen_around(canvas[at.in_image])
        if sprite.kind in CLUTTER:
            name, colours = muted_palette(rng, around)
        else:
            near = [other.main for other in self._looks if at.touches(other.at)]
            name, colours = palette(rng, kind.colours, around, near, stands_out)
        texture = drawn_texture(rng, kind.thin)
        rgb = painted(cutout, colours, texture, self._light, rng)
        if self._light.shadow:
            _cast_shadow(canvas, cutout, corner, self._light)
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
