"""Synthetic captions of the made world's images.

Every object but clutter is named, with the word for its kind; colours, sizes, textures and the
background are mentioned now and then. A kind that shares its word with another goes by its own
name now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from made_world.drawing.rng import Rng
from made_world.scenes.composing import MadeImage, MadeObject
from made_world.things.kinds import CLUTTER, word_for

_STREAM: Final = 3
_NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six")
_PLURALS: Final = {
    "fish": "fish", "leaf": "leaves", "starfish": "starfish", "jellyfish": "jellyfish",
    "wrench": "wrenches", "ice cream": "ice creams",
}  # fmt: skip

_FRAMES: Final = (
    "{}", "{}", "{}", "{}", "a photo of {}", "a picture of {}", "a drawing of {}", "drawing of {}",
    "an image of {}", "an image showing {}", "a small picture with {}", "an illustration of {}",
    "this is {}", "here we see {}", "one can see {}", "the picture shows {}", "a painting of {}",
    "a nice picture of {}", "someone drew {}", "a print of {}",
)  # fmt: skip

# Words for a background, before "background" and on their own.
_GROUNDS: Final = {
    "plain": ("plain", "plain {} ground"),
    "gradient": ("shaded", "{} shading"),
    "clouds": ("cloudy", "{} clouds"),
    "stripes": ("striped", "{} stripes"),
    "checks": ("checked", "{} checks"),
    "dots": ("dotted", "{} dots"),
    "waves": ("wavy", "{} waves"),
    "blobs": ("blurred", "{} blurred lights"),
    "paper": ("paper", "{} paper"),
    "tiles": ("tiled", "{} tiles"),
    "hills": ("hilly", "{} hills"),
    "marble": ("marbled", "{} marble"),
}
_NOTHING: Final = (
    "{}", "only {}", "just {}", "there is nothing here but {}", "nothing but {}", "a picture of {}",
    "an empty picture with {}", "no objects, only {}", "{} and nothing else", "a texture of {}",
)  # fmt: skip


def caption(image: MadeImage, seed: int, number: int) -> str:
    """A caption; the same for the same image, seed and number."""
    rng = Rng(seed, number, _STREAM)
    named = [one for one in image.objects if one.kind not in CLUTTER]
    if not named:
        return rng.one_of(_NOTHING).format(_ground(rng, image))
    text = _things(rng, named)
    if rng.chance(0.35):
        text += f" {_behind(rng, image)}"
    return rng.one_of(_FRAMES).format(text)


def plural(kind: str) -> str:
    """More than one of a kind."""
    return _PLURALS.get(kind, f"{kind}s")


def _things(rng: Rng, objects: Sequence[MadeObject]) -> str:
    order = [objects[at] for at in rng.permutation(len(objects))]
    if len(order) == 2 and order[0].kind != order[1].kind and rng.chance(0.6):
        return _pair(rng, *order)
    # In order of first appearance in the shuffled objects.
    kinds = dict.fromkeys(one.kind for one in order)
    phrases = [_group(rng, [one for one in order if one.kind == kind]) for kind in kinds]
    if len(phrases) == 1:
        return phrases[0]
    return f"{', '.join(phrases[:-1])} {rng.one_of(('and', 'and', 'with'))} {phrases[-1]}"


def _group(rng: Rng, group: Sequence[MadeObject]) -> str:
    if len(group) == 1:
        return _thing(rng, group[0])
    colours = {one.colour for one in group}
    colour = f"{colours.pop()} " if len(colours) == 1 and rng.chance(0.7) else ""
    return f"{_NUMBERS[len(group)]} {colour}{plural(_name(rng, group[0].kind))}"


def _thing(rng: Rng, one: MadeObject) -> str:
    words = []
    if rng.chance(0.25):
        words += ["small"] if one.size < 0.32 else ["big"] if one.size > 0.5 else []
    if one.texture in {"striped", "spotted", "checked"} and rng.chance(0.3):
        words.append(one.texture)
    if rng.chance(0.55):
        words.append(one.colour)
    return _with_article(" ".join([*words, _name(rng, one.kind)]))


def _name(rng: Rng, kind: str) -> str:
    """The word for a kind; of one that shares its word, its own name now and then."""
    word = word_for(kind)
    return word if word != kind and rng.chance(0.6) else kind


def _pair(rng: Rng, first: MadeObject, second: MadeObject) -> str:
    """Two objects and their relative position."""
    (y, x), (other_y, other_x) = (np.argwhere(one.mask).mean(axis=0) for one in (first, second))
    between = rng.one_of(("next to", "beside", "and", "together with"))
    if rng.chance(0.5):
        if abs(x - other_x) > abs(y - other_y):
            between = "to the left of" if x < other_x else "to the right of"
        else:
            between = "above" if y < other_y else "below"
    return f"{_thing(rng, first)} {between} {_thing(rng, second)}"


def _behind(rng: Rng, image: MadeImage) -> str:
    adjective, _ = _GROUNDS[image.background]
    style = rng.whole(0, 3)
    if style == 0:
        return f"on {_with_article(adjective)} background"
    if style == 1:
        return f"on {_with_article(image.background_colour)} background"
    if style == 2:
        return f"on {_with_article(f'{image.background_colour} {adjective}')} background"
    return f"on {_ground(rng, image)}"


def _ground(rng: Rng, image: MadeImage) -> str:
    adjective, noun = _GROUNDS[image.background]
    if rng.chance(0.3):
        colour = f"{image.background_colour} " if rng.chance(0.6) else ""
        return f"{_with_article(f'{colour}{adjective}')} background"
    colour = image.background_colour if rng.chance(0.6) else ""
    return " ".join(noun.format(colour).split())


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
