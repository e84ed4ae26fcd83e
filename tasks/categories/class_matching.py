"""Matching of a vocabulary's categories with the classes of a data set.

Categories are matched by name where the names are the data set's own. Synonyms can't be told from
a list in another order, so categories are matched by position only on request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from storage.errors.exceptions import ConfigError
from storage.errors.sentences import listed
from storage.vocabularies.vocabulary import Category

IN_ORDER: Final = "in-order"
"""Option value: the vocabulary's categories are the set's classes, in the same order."""

Classes = Mapping[str, str] | Literal["", "in-order"]

_NAMED: Final = 5


def in_class_order(
    class_names: Sequence[str], categories: Sequence[Category], classes: Classes, set_name: str
) -> tuple[Category, ...]:
    """The categories in the order of the set's classes.

    Names are compared without regard to case and white space.

    Args:
        class_names: the set's class names.
        categories: one for each class.
        classes: the class of each category whose name is not the set's, or `in-order`; empty
            where all names are.
        set_name: the data set's name, for errors.

    Raises:
        ConfigError: a category has no class, two have the same one, or `classes` has unknown names
            or contradicts the names themselves.
    """
    _check_number(class_names, categories, set_name)
    if classes == IN_ORDER:
        check_positions(class_names, categories, set_name)
        return tuple(categories)
    given = _given_indices(class_names, categories, classes or {}, set_name)
    indices = [
        given.get(_plain(category.name), class_index(category.name, class_names))
        for category in categories
    ]
    unmatched = [
        item.name for item, index in zip(categories, indices, strict=True) if index is None
    ]
    if unmatched:
        left = [name for index, name in enumerate(class_names) if index not in indices]
        raise ConfigError(
            f"{len(unmatched):,} of {len(categories):,} names of the vocabulary are not in the "
            f"data set {set_name} ({_quoted(unmatched)}), and its classes {_quoted(left)} are "
            "left: match them with classes={NAME: CLASS, …}, or with classes=in-order if the "
            "vocabulary lists the set's classes in their order."
        )
    by_index = dict(zip(indices, categories, strict=True))
    if len(by_index) < len(categories):
        twice = [
            class_names[index]
            for index in by_index
            if index is not None and indices.count(index) > 1
        ]
        raise ConfigError(
            f"Several categories of the vocabulary match the class {twice[0]!r} of the data set "
            f"{set_name}: give each class one category."
        )
    return tuple(by_index[index] for index in range(len(class_names)))


def check_positions(
    class_names: Sequence[str], categories: Sequence[Category], set_name: str
) -> None:
    """Check that no category has the name of a class at another position.

    Raises:
        ConfigError: a category has.
    """
    _check_number(class_names, categories, set_name)
    for index, category in enumerate(categories):
        named = class_index(category.name, class_names)
        if named is not None and named != index:
            raise ConfigError(
                f"Category {index + 1} is {category.name!r}, which is class {named + 1} of the "
                f"data set {set_name}, but its position is that of {class_names[index]!r}: the "
                "set's own names are matched by name, so leave out classes=in-order."
            )


def class_index(name: str, class_names: Sequence[str]) -> int | None:
    """Index of the class with that name, exactly or but for case and space; None if none has."""
    if name in class_names:
        return class_names.index(name)
    alike = [index for index, other in enumerate(class_names) if _plain(other) == _plain(name)]
    return alike[0] if len(alike) == 1 else None


def _given_indices(
    class_names: Sequence[str],
    categories: Sequence[Category],
    classes: Mapping[str, str],
    set_name: str,
) -> dict[str, int]:
    """The class index of each name in `classes`."""
    asked = {_plain(category.name) for category in categories}
    given = {}
    for name, named in classes.items():
        index = class_index(named, class_names)
        if _plain(name) not in asked:
            raise ConfigError(
                f"classes has {name!r}, which is not in the vocabulary: use the vocabulary's names."
            )
        if index is None:
            raise ConfigError(
                f"classes matches {name!r} with {named!r}, which is no class of the data set "
                f"{set_name}; its classes are {_quoted(class_names)}."
            )
        given[_plain(name)] = index
    return given


def _check_number(
    class_names: Sequence[str], categories: Sequence[Category], set_name: str
) -> None:
    if len(categories) != len(class_names):
        raise ConfigError(
            f"{len(categories)} categories are given and the data set {set_name} has "
            f"{len(class_names)}: give one for each class, or score all classes as one with "
            "collapse_to=NAME."
        )


def _plain(name: str) -> str:
    return "".join(name.split()).casefold()


def _quoted(names: Sequence[str]) -> str:
    return listed([repr(name) for name in names], _NAMED)
