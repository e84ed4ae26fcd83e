"""Which of a data set's classes each category of a vocabulary is asked for.

Names say it where they are the data set's own. Other words for the same classes can't be told from
a list in another order, so that positions count only where somebody says that they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from storage.errors.exceptions import ConfigError
from storage.errors.sentences import listed
from storage.vocabularies.vocabulary import Category

IN_ORDER: Final = "in-order"
"""Says that the vocabulary's categories are the set's classes, one after the other."""

Classes = Mapping[str, str] | Literal["", "in-order"]

_NAMED: Final = 5


def in_class_order(
    own: Sequence[str], categories: Sequence[Category], classes: Classes, set_name: str
) -> tuple[Category, ...]:
    """The categories in the order of the set's classes.

    Names are compared without regard to case and white space.

    Args:
        own: the set's names.
        categories: one for each of them.
        classes: the class of each name that is not the set's, or `in-order`; empty where all are.
        set_name: for errors.

    Raises:
        ConfigError: a category has no class, two have the same, or `classes` speaks of names that
            there are not or contradicts the names themselves.
    """
    _check_number(own, categories, set_name)
    if classes == IN_ORDER:
        check_positions(own, categories, set_name)
        return tuple(categories)
    given = _places_given(own, categories, classes or {}, set_name)
    places = [
        given.get(_plain(category.name), class_index(category.name, own)) for category in categories
    ]
    lost = [item.name for item, place in zip(categories, places, strict=True) if place is None]
    if lost:
        left = [name for place, name in enumerate(own) if place not in places]
        raise ConfigError(
            f"{len(lost):,} of {len(categories):,} names of the vocabulary are none of the data set"
            f" {set_name} ({_quoted(lost)}), and of its names {_quoted(left)} are left: say which "
            "is which with classes={NAME: CLASS, …}, or classes=in-order if the vocabulary lists "
            "the set's classes in their order."
        )
    by_place = dict(zip(places, categories, strict=True))
    if len(by_place) < len(categories):
        twice = [own[place] for place in by_place if place is not None and places.count(place) > 1]
        raise ConfigError(
            f"Several categories of the vocabulary are the class {twice[0]!r} of the data set "
            f"{set_name}: give each class one."
        )
    return tuple(by_place[place] for place in range(len(own)))


def check_positions(own: Sequence[str], categories: Sequence[Category], set_name: str) -> None:
    """Refuses a category that has the name of another class than that of its place.

    Raises:
        ConfigError: there is one.
    """
    _check_number(own, categories, set_name)
    for place, category in enumerate(categories):
        meant = class_index(category.name, own)
        if meant is not None and meant != place:
            raise ConfigError(
                f"Category {place + 1} is {category.name!r}, which is class {meant + 1} of the data"
                f" set {set_name}, and stands for its class {own[place]!r}: names that are the "
                "set's are matched by name, so leave out classes=in-order."
            )


def class_index(name: str, own: Sequence[str]) -> int | None:
    """Where the name is among the set's, exactly or else by its letters; None where it is not."""
    if name in own:
        return own.index(name)
    alike = [place for place, other in enumerate(own) if _plain(other) == _plain(name)]
    return alike[0] if len(alike) == 1 else None


def _places_given(
    own: Sequence[str], categories: Sequence[Category], classes: Mapping[str, str], set_name: str
) -> dict[str, int]:
    """The place of each name that `classes` has."""
    asked = {_plain(category.name) for category in categories}
    given = {}
    for name, meant in classes.items():
        place = class_index(meant, own)
        if _plain(name) not in asked:
            raise ConfigError(f"classes has {name!r}, which the vocabulary doesn't: use its names.")
        if place is None:
            raise ConfigError(
                f"classes says that {name!r} is {meant!r}, which the data set {set_name} doesn't "
                f"know, only {_quoted(own)}."
            )
        given[_plain(name)] = place
    return given


def _check_number(own: Sequence[str], categories: Sequence[Category], set_name: str) -> None:
    if len(categories) != len(own):
        raise ConfigError(
            f"{len(categories)} categories are given and the data set {set_name} has {len(own)}: "
            "give one for each of them, or collapse_to a name to score all as one."
        )


def _plain(name: str) -> str:
    return "".join(name.split()).casefold()


def _quoted(names: Sequence[str]) -> str:
    return listed([repr(name) for name in names], _NAMED)
