"""Vocabularies: the categories that a data set is built for, with their names and prompts.

A vocabulary is a YAML file, or a text file with one name a line; `vocabularies/README.md` describes
both. Categories have no label ids of their own: a category's label id is its position, from 1.
Label 0 is the background, which is never a category.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from storage.access.roots import refuse_path
from storage.errors.exceptions import VocabularyError
from storage.files.regular_files import UnsuitableFileError
from storage.files.user_files import VOCABULARY, read_path, user_path
from storage.files.yaml_files import compose_plain_yaml, load_plain_yaml
from storage.vocabularies.category import Category, category_prompts
from storage.vocabularies.entries import (
    category_of,
    check_keys,
    checked_name,
    compared_name,
    kind_of,
    nearest_words,
    refuse_list,
    require_text,
)

__all__ = [
    "BACKGROUND",
    "MAX_CATEGORIES",
    "Category",
    "Vocabulary",
    "category_prompts",
    "known_vocabularies",
    "load_vocabulary",
]

BACKGROUND: Final = "background"

MAX_CATEGORIES: Final = 65_534
"""Labels fit 16 bits, with 0 for the background and the highest value for "ignore"."""

_SUFFIXES: Final = (".yaml", ".yml", ".txt")
_SHIPPED: Final = Path(__file__).resolve().parents[2] / "vocabularies"
_FILE_KEYS: Final = ("categories", "name")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Categories in label order: `categories[i]` has label id `i + 1`."""

    name: str
    categories: tuple[Category, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The categories' names, in label order, without the background."""
        return tuple(category.name for category in self.categories)


def known_vocabularies() -> dict[str, Path]:
    """Vocabularies that are known by name, sorted by name.

    Returns:
        Name (the file's stem) to path. A file in `./vocabularies/` of the working directory hides
        a shipped one of the same name.
    """
    found: dict[str, Path] = {}
    for folder in (_SHIPPED, Path("vocabularies")):
        # Later entries win: the user's folder over the shipped one, YAML over plain text.
        for suffix in reversed(_SUFFIXES):
            found |= {path.stem: path for path in folder.glob(f"*{suffix}") if path.is_file()}
    return dict(sorted(found.items()))


def load_vocabulary(spec: str) -> Vocabulary:
    """Read a vocabulary.

    Args:
        spec: a path to a `.yaml`, `.yml` or `.txt` file, or a name out of `known_vocabularies()`.

    Returns:
        The vocabulary; names are stripped of white space at their ends and otherwise untouched.

    Raises:
        OutsideRootsError: the file lies outside the roots.
        VocabularyError: the file is missing or can't be read, is not UTF-8 or not YAML of the
            expected form, or its categories are not usable: none at all, too many, a name that is
            empty or occurs twice (ignoring case), or `background` elsewhere than in first place.
    """
    path = _locate(spec)
    text = _read_text(path)
    if path.suffix.lower() == ".txt":
        return _from_lines(path, text)
    return _from_yaml(path, text)


# --- finding and reading the file ---------------------------------------------------------------


def _locate(spec: str) -> Path:
    path = user_path(spec)
    is_path = path.suffix.lower() in _SUFFIXES or len(path.parts) != 1
    if is_path:
        refuse_path(path)
    # os.path, since pathlib raises where a name is too long.
    if is_path and os.path.exists(path) and not os.path.isdir(path):  # noqa: PTH110, PTH112
        if path.suffix.lower() not in _SUFFIXES and os.path.isfile(path):  # noqa: PTH113
            raise VocabularyError(
                f"Vocabulary {spec}: the file's name must end in {_or(_SUFFIXES)}; rename it."
            )
        return path
    known = known_vocabularies()
    if spec in known:
        return known[spec]
    listed = [*nearest_words(path.stem, known), *known]
    names = ", ".join(dict.fromkeys(listed))
    if is_path:
        raise VocabularyError(
            f"There is no vocabulary file {spec}; give the path of a {_or(_SUFFIXES)} file, or one"
            f" of the names {names}."
        )
    raise VocabularyError(
        f"There is no vocabulary named {spec!r}; known are {names}; for one of your own, give its"
        f" path, or put it into ./vocabularies/."
    )


def _read_text(path: Path) -> str:
    try:
        # "utf-8-sig" also drops the byte order mark that Windows editors write.
        return read_path(path, VOCABULARY).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise VocabularyError(
            f"Vocabulary {path}, line {line}: the file is not UTF-8 text; save it as UTF-8."
        ) from error
    except UnsuitableFileError as error:
        raise VocabularyError(f"Vocabulary {path} can't be read: {error.strerror}.") from error
    except OSError as error:
        raise VocabularyError(
            f"Vocabulary {path} can't be read ({error.strerror}); check the file and its"
            f" permissions."
        ) from error


# --- the two formats ----------------------------------------------------------------------------


def _from_lines(path: Path, text: str) -> Vocabulary:
    numbered = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    named = [
        (f"line {number}", name) for number, name in numbered if name and not name.startswith("#")
    ]
    for place, name in named:
        refuse_list(path, place, name)
    entries = [(place, Category(name=checked_name(path, place, name))) for place, name in named]
    return _vocabulary(path, path.stem, entries)


def _from_yaml(path: Path, text: str) -> Vocabulary:
    document, nodes = _parse_yaml(path, text)
    if not isinstance(document, dict):
        raise VocabularyError(
            f"Vocabulary {path} must be a mapping with the key `categories`, not"
            f" {kind_of(document)}."
        )
    check_keys(path, "the file", document, _FILE_KEYS)
    name = document.get("name", path.stem)
    if not isinstance(name, str) or not name.strip():
        raise VocabularyError(
            f"Vocabulary {path}: `name` must be a word or a quoted text, not {kind_of(name)}."
        )
    require_text(path, "`name`", name)
    items = document.get("categories")
    if not isinstance(items, list):
        raise VocabularyError(
            f"Vocabulary {path}: `categories` must be a list of names or mappings, not"
            f" {kind_of(items)}."
        )
    # A list that comes in by a merge key (`<<`) has no lines of its own.
    places = [
        f"category {position}" + (f" (line {node.start_mark.line + 1})" if node else "")
        for position, (_, node) in enumerate(itertools.zip_longest(items, nodes), start=1)
    ]
    for place, node in zip(places, nodes, strict=False):
        if (written := _unquoted_name(node)) is not None:
            refuse_list(path, place, written)
    entries = [
        (place, category_of(path, place, item)) for place, item in zip(places, items, strict=True)
    ]
    return _vocabulary(path, name.strip(), entries)


def _parse_yaml(path: Path, text: str) -> tuple[Any, list[yaml.Node]]:
    """The document, and the node of each item of `categories`: where it is, and how written."""
    try:
        document = load_plain_yaml(text)
        # The plain values carry no line numbers; the composed nodes do.
        node = compose_plain_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise VocabularyError(
            f"Vocabulary {path}{line}: this is not valid YAML ({problem}); correct it (names with"
            f" special characters need quotes)."
        ) from error
    if not isinstance(node, yaml.MappingNode):
        return document, []
    keys = [key.value for key, _ in node.value]
    # YAML readers keep the last of two equal keys, which would lose half of a vocabulary silently.
    for number, (key, _) in enumerate(node.value):
        if key.value in keys[:number]:
            raise VocabularyError(
                f"Vocabulary {path}, line {key.start_mark.line + 1}: the key `{key.value}` is"
                f" there twice; keep one."
            )
    items = [value for key, value in node.value if key.value == "categories"]
    if not items or not isinstance(items[0], yaml.SequenceNode):
        return document, []
    return document, items[0].value


def _unquoted_name(item: yaml.Node) -> str | None:
    """The name of a category that is written without quotes."""
    names = [item]
    if isinstance(item, yaml.MappingNode):
        names = [value for key, value in item.value if key.value == "name"]
    plain = (name for name in names if isinstance(name, yaml.ScalarNode) and name.style is None)
    return next((str(name.value) for name in plain), None)


# --- checks -------------------------------------------------------------------------------------


def _vocabulary(path: Path, name: str, entries: list[tuple[str, Category]]) -> Vocabulary:
    """Check what concerns the list as a whole; each category comes with its place in the file."""
    if entries and compared_name(entries[0][1].name) == BACKGROUND:
        entries = entries[1:]
    if not entries:
        raise VocabularyError(f"Vocabulary {path} has no categories; add at least one name.")
    if len(entries) > MAX_CATEGORIES:
        raise VocabularyError(
            f"Vocabulary {path} has {len(entries):,} categories, and at most {MAX_CATEGORIES:,} fit"
            f" a label map; split it."
        )
    seen: dict[str, tuple[str, str]] = {}
    for place, category in entries:
        folded = compared_name(category.name)
        if folded == BACKGROUND:
            raise VocabularyError(
                f"Vocabulary {path}, {place}: {category.name!r} is label 0 and can only stand"
                f" first; move or delete it."
            )
        if folded in seen:
            first_place, first_name = seen[folded]
            raise VocabularyError(
                f"Vocabulary {path}: {first_name!r} at {first_place} and {category.name!r} at"
                f" {place} are the same name; delete or rename one."
            )
        seen[folded] = (place, category.name)
    return Vocabulary(name=name, categories=tuple(category for _, category in entries))


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
