"""The kinds of objects in the made world: drawing, pose and colours of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from made_world.drawing.parts import Part
from made_world.drawing.rng import Rng
from made_world.things import belongings, emblems, outdoors


@dataclass(frozen=True)
class Kind:
    """A kind of thing.

    Attributes:
        draw: makes one of its many shapes.
        tilt: by how many degrees at most it leans to either side and is still itself.
        colours: which it has more often than others.
        thin: whether it is so slender that it has to be larger and without patterns to be seen.
    """

    draw: Callable[[Rng], list[Part]]
    tilt: float
    colours: tuple[str, ...]
    thin: bool = False


_ANY, _UPRIGHT = 180.0, 35.0

BY_NAME: Final[dict[str, Kind]] = {
    "star": Kind(emblems.star, _ANY, ("yellow", "orange", "white")),
    "heart": Kind(emblems.heart, _ANY, ("red", "pink")),
    "crescent moon": Kind(emblems.crescent_moon, _ANY, ("yellow", "white", "grey")),
    "arrow": Kind(emblems.arrow, _ANY, ("red", "blue", "black")),
    "key": Kind(belongings.key, _ANY, ("yellow", "grey", "brown"), thin=True),
    "umbrella": Kind(belongings.umbrella, _UPRIGHT, ("red", "blue", "purple")),
    "fish": Kind(outdoors.fish, _ANY, ("orange", "blue", "turquoise")),
    "house": Kind(outdoors.house, _UPRIGHT, ("white", "yellow", "red")),
    "tree": Kind(outdoors.tree, _UPRIGHT, ("green", "green", "orange")),
    "cup": Kind(belongings.cup, _UPRIGHT, ("white", "blue", "turquoise")),
    "ladder": Kind(belongings.ladder, _ANY, ("brown", "orange", "grey"), thin=True),
    "gear": Kind(emblems.gear, _ANY, ("grey", "black", "blue")),
    "bell": Kind(belongings.bell, _UPRIGHT, ("yellow", "orange", "red")),
    "sailing boat": Kind(outdoors.sailing_boat, _UPRIGHT, ("white", "red", "blue")),
    "mushroom": Kind(outdoors.mushroom, _UPRIGHT, ("red", "brown", "orange")),
    "lightning bolt": Kind(emblems.lightning_bolt, _ANY, ("yellow", "orange", "white")),
}

KINDS: Final[tuple[str, ...]] = tuple(BY_NAME)


def kind_named(name: str) -> Kind:
    """The kind of this name; ValueError if there is none."""
    if name not in BY_NAME:
        raise ValueError(f"The made world has no kind {name!r}, only {', '.join(KINDS)}.")
    return BY_NAME[name]
