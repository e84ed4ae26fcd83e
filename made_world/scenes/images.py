"""Images of the easy world: mostly of one object, or scenes of a few, on a quiet background."""

from __future__ import annotations

from collections.abc import Sequence

from made_world.drawing.rng import Rng
from made_world.scenes.backgrounds import background
from made_world.scenes.composing import (
    Composition,
    MadeImage,
    Sprite,
    check_kinds,
    drawn_size,
    drawn_sprite,
)
from made_world.things.distractors import add_distractors
from made_world.things.kinds import KINDS

_CORPUS_STREAM, _SCENE_STREAM = 1, 2
_SHORTEST, _SHORTEST_SCENE = 96, 136


def corpus_image(seed: int, number: int, kinds: Sequence[str] = KINDS) -> MadeImage:
    """An image of an unlabelled corpus: mostly of one object, some of none or a few.

    The longest side of a lone object's box is 0.2 to 0.6 of the image's shorter side. The
    image depends on the arguments alone.

    Raises:
        ValueError: a kind is unknown, there is none, or a number is negative.
    """
    check_kinds(kinds)
    rng = Rng(seed, number, _CORPUS_STREAM)
    size = drawn_size(rng, _SHORTEST)
    lot = rng.between(0, 1)
    count = 0 if lot < 0.07 else 1 if lot < 0.87 else 2 if lot < 0.96 else 3
    sides = [0.24 + 0.36 * rng.between(0, 1) ** 0.6 for _ in range(count)]
    if count > 1:
        sides = [min(side, 0.46) for side in sides]
    sprites = [drawn_sprite(rng, rng.one_of(kinds), side, size) for side in sides]
    return _composed(rng, size, sprites, scene=False)


def scene_image(seed: int, number: int, kinds: Sequence[str] = KINDS) -> MadeImage:
    """An image of 2 to 6 objects of different sizes that partly hide each other.

    At least 30 % and 60 pixels of each can be seen. The image depends on the arguments alone.

    Raises:
        ValueError: a kind is unknown, there is none, or a number is negative.
    """
    check_kinds(kinds)
    rng = Rng(seed, number, _SCENE_STREAM)
    size = drawn_size(rng, _SHORTEST_SCENE)
    count = rng.one_of((2, 2, 3, 3, 3, 4, 4, 5, 6))
    largest = {2: 0.66, 3: 0.6, 4: 0.54, 5: 0.48, 6: 0.44}[count]
    sides = [rng.between(0.3, largest) for _ in range(count)]
    if rng.chance(0.7):
        sides.sort(reverse=True)
    sprites = [drawn_sprite(rng, rng.one_of(kinds), side, size) for side in sides]
    return _composed(rng, size, sprites, scene=True)


def _composed(rng: Rng, size: tuple[int, int], sprites: Sequence[Sprite], scene: bool) -> MadeImage:
    behind = background(rng, *size)
    add_distractors(rng, behind.rgb, 2 if sprites else 4)
    composition = Composition(rng, behind, centred=not scene)
    for sprite in sprites:
        beyond = rng.between(0.05, 0.25) if rng.chance(0.12) else 0.0
        composition.add(sprite, crowding=0.2, beyond=beyond)
    return composition.finished()
