"""Images of the hard world: several objects, look-alikes and clutter on busy backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from made_world.drawing.rng import Rng
from made_world.scenes.backgrounds import background
from made_world.scenes.composing import (
    Composition,
    MadeImage,
    check_kinds,
    drawn_size,
    drawn_sprite,
)
from made_world.things.distractors import add_distractors
from made_world.things.kinds import CLUTTER, KINDS, LOOK_ALIKES

_STREAM: Final = 6
_SHORTEST: Final = 112

_COUNTS: Final = (1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 6)
"""Of objects that have a kind; 2.5 on average."""


@dataclass(frozen=True, kw_only=True)
class Hardness:
    """What makes images hard; shares are 0..1.

    Attributes:
        empty: share of images without any object but clutter.
        largest: the longer side of the largest object's box over the image's shorter side, lowest
            and highest.
        smaller: the same of the others at most, as a share of the largest.
        crowding: share of objects that are put near another.
        look_alikes: share of objects that resemble a kind and are of none.
        cut_off: share of objects that reach beyond the image.
        beyond: how far these do at most, as a share of their box.
        faint: the least difference of an object's colour from its surroundings that is sought; see
            `made_world.drawing.colours.STANDS_OUT`.
        contrast: factor of the background's differences in lightness, lowest and highest.
        behind, before: the most things that lie about behind the objects, and before them.
    """

    empty: float = 0.12
    largest: tuple[float, float] = (0.52, 0.78)
    smaller: float = 0.42
    crowding: float = 0.3
    look_alikes: float = 0.13
    cut_off: float = 0.12
    beyond: float = 0.5
    faint: float = 34.0
    contrast: tuple[float, float] = (0.8, 1.3)
    behind: int = 3
    before: int = 1


HARD: Final = Hardness()


def hard_image(
    seed: int, number: int, kinds: Sequence[str] = KINDS, hardness: Hardness = HARD
) -> MadeImage:
    """An image of one to six objects among clutter, or of clutter only.

    One object is larger than the others, which are as small as a seventh of the image's shorter
    side. Some are look-alikes, whatever `kinds` are; some are hidden to a third or cut off to two
    fifths. The image depends on the arguments alone.

    Raises:
        ValueError: a kind is unknown, there is none, or a number is negative.
    """
    check_kinds(kinds)
    rng = Rng(seed, number, _STREAM)
    size = drawn_size(rng, _SHORTEST)
    empty = rng.chance(hardness.empty)
    behind = background(rng, *size, contrast=rng.between(*hardness.contrast))
    add_distractors(rng, behind.rgb, 3)
    composition = Composition(rng, behind, centred=False)
    for _ in range(rng.whole(3, 8) if empty else rng.whole(0, hardness.behind)):
        _add_clutter(rng, composition, size, crowding=0.0)
    for share in [] if empty else _sides(rng, hardness):
        alike = rng.chance(hardness.look_alikes)
        kind = rng.one_of(tuple(LOOK_ALIKES)) if alike else rng.one_of(kinds)
        sprite = drawn_sprite(rng, kind, share, size, thin_least=0.24, least_area=80)
        cut_off = rng.chance(hardness.cut_off)
        composition.add(
            sprite,
            crowding=hardness.crowding,
            beyond=rng.between(0.1, hardness.beyond) if cut_off else 0.0,
            inside=0.4,
            stands_out=rng.between(hardness.faint, 40.0),
        )
    for _ in range(0 if empty else rng.whole(0, hardness.before)):
        _add_clutter(rng, composition, size, crowding=0.8)
    return composition.finished()


def _sides(rng: Rng, hardness: Hardness) -> list[float]:
    """The longer sides of an image's objects over its shorter side, from back to front."""
    count = rng.one_of(_COUNTS)
    largest = rng.between(*hardness.largest)
    sides = [largest, *(rng.between(0.15, hardness.smaller * largest) for _ in range(count - 1))]
    return [sides[at] for at in rng.permutation(count)]


def _add_clutter(
    rng: Rng, composition: Composition, size: tuple[int, int], crowding: float
) -> None:
    sprite = drawn_sprite(
        rng, rng.one_of(CLUTTER), rng.between(0.1, 0.32), size, thin_least=0.25, least_area=60
    )
    beyond = rng.between(0.1, 0.4) if rng.chance(0.3) else 0.0
    composition.add(sprite, crowding=crowding, beyond=beyond, inside=0.4)
