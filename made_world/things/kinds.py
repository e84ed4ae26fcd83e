"""The kinds of objects in the made world: drawing, pose and colours of each.

Four groups: the vocabulary (`KINDS`), kinds that share a name with another (`SENSES`), things that
resemble a kind of the vocabulary and are none (`LOOK_ALIKES`), and things that lie about
(`CLUTTER`). Only the first occur unless others are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from made_world.drawing.parts import Part
from made_world.drawing.rng import Rng
from made_world.things import belongings, clutter, emblems, lookalikes, outdoors, senses

Sort = Literal["kind", "look-alike", "clutter"]


@dataclass(frozen=True)
class Kind:
    """A kind of thing.

    Attributes:
        draw: makes one of its many shapes.
        tilt: by how many degrees at most it leans to either side and is still itself.
        colours: which it has more often than others.
        thin: whether it is so slender that it has to be larger and without patterns to be seen.
        word: what it is called if not by its own name: kinds of equal words share a name.
    """

    draw: Callable[[Rng], list[Part]]
    tilt: float
    colours: tuple[str, ...]
    thin: bool = False
    word: str = ""


_ANY, _UPRIGHT = 180.0, 35.0

_VOCABULARY: Final[dict[str, Kind]] = {
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

_SENSES: Final[dict[str, Kind]] = {
    "bat animal": Kind(senses.bat_animal, _UPRIGHT, ("black", "brown", "purple"), word="bat"),
    "wooden bat": Kind(senses.wooden_bat, _ANY, ("brown", "orange"), thin=True, word="bat"),
    "crane bird": Kind(senses.crane_bird, _UPRIGHT, ("white", "grey", "pink"), word="crane"),
    "tower crane": Kind(senses.tower_crane, 12.0, ("yellow", "red"), thin=True, word="crane"),
}

_LOOK_ALIKES: Final[dict[str, tuple[str, Kind]]] = {
    "starfish": ("star", Kind(lookalikes.starfish, _ANY, ("orange", "red", "yellow"))),
    "leaf": ("heart", Kind(lookalikes.leaf, _ANY, ("green", "red", "orange"))),
    "banana": ("crescent moon", Kind(lookalikes.banana, _ANY, ("yellow", "yellow", "green"))),
    "rocket": ("arrow", Kind(lookalikes.rocket, _ANY, ("red", "white", "blue"))),
    "wrench": ("key", Kind(lookalikes.wrench, _ANY, ("grey", "blue", "black"), thin=True)),
    "jellyfish": ("umbrella", Kind(lookalikes.jellyfish, _UPRIGHT, ("pink", "purple", "blue"))),
    "airship": ("fish", Kind(lookalikes.airship, _UPRIGHT, ("grey", "red", "blue"))),
    "tent": ("house", Kind(lookalikes.tent, _UPRIGHT, ("green", "orange", "yellow"))),
    "ice cream": ("tree", Kind(lookalikes.ice_cream, _UPRIGHT, ("pink", "white", "green"))),
    "bucket": ("cup", Kind(lookalikes.bucket, _UPRIGHT, ("blue", "grey", "red"))),
    "fence": ("ladder", Kind(lookalikes.fence, _UPRIGHT, ("white", "brown"), thin=True)),
    "sun": ("gear", Kind(lookalikes.sun, _ANY, ("yellow", "orange"))),
    "lamp": ("bell", Kind(lookalikes.lamp, _UPRIGHT, ("yellow", "white", "red"))),
    "paper boat": ("sailing boat", Kind(lookalikes.paper_boat, _UPRIGHT, ("white", "blue"))),
    "acorn": ("mushroom", Kind(lookalikes.acorn, _UPRIGHT, ("brown", "orange", "green"))),
    "zigzag": ("lightning bolt", Kind(lookalikes.zigzag, _ANY, ("yellow", "orange", "blue"))),
}

_CLUTTER: Final[dict[str, Kind]] = {
    "pebble": Kind(clutter.pebble, _ANY, ()),
    "block": Kind(clutter.block, _UPRIGHT, ()),
    "ring": Kind(clutter.ring, _ANY, ()),
    "stick": Kind(clutter.stick, _ANY, (), thin=True),
    "scrap": Kind(clutter.scrap, _ANY, ()),
    "ball": Kind(clutter.ball, _ANY, ()),
}

BY_NAME: Final[dict[str, Kind]] = {
    **_VOCABULARY,
    **_SENSES,
    **{name: kind for name, (_, kind) in _LOOK_ALIKES.items()},
    **_CLUTTER,
}

KINDS: Final[tuple[str, ...]] = tuple(_VOCABULARY)
SENSES: Final[tuple[str, ...]] = tuple(_SENSES)
KINDS_AND_SENSES: Final[tuple[str, ...]] = (*KINDS, *SENSES)
CLUTTER: Final[tuple[str, ...]] = tuple(_CLUTTER)

LOOK_ALIKES: Final[dict[str, str]] = {name: of for name, (of, _) in _LOOK_ALIKES.items()}
"""The kind that each resembles."""


def kind_named(name: str) -> Kind:
    """The kind of this name; ValueError if there is none."""
    if name not in BY_NAME:
        raise ValueError(f"The made world has no kind {name!r}, only {', '.join(BY_NAME)}.")
    return BY_NAME[name]


def word_for(name: str) -> str:
    """What a kind is called; ValueError if there is none of that name."""
    return kind_named(name).word or name


def sort_of(name: str) -> Sort:
    """Whether a vocabulary may name it, or it resembles a kind, or lies about; ValueError if there
    is no such kind."""
    kind_named(name)
    return "look-alike" if name in LOOK_ALIKES else "clutter" if name in CLUTTER else "kind"


def words_of(kinds: Sequence[str]) -> tuple[str, ...]:
    """What kinds are called, each word once: a vocabulary of their names."""
    return tuple(dict.fromkeys(word_for(kind) for kind in kinds))
