"""Entries of a vocabulary file, checked; every error names the file and the place in it."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from storage.access.credentials import refuse_secrets
from storage.errors.exceptions import VocabularyError
from storage.files.filesystems import is_local, local_path
from storage.files.json_files import is_text
from storage.files.user_files import user_path
from storage.vocabularies.category import DEFAULT_NAME_WEIGHT, Category, count_fields

_KEYS: Final = ("examples", "id", "name", "name_weight", "not", "prompts", "synonyms")
_LIST_SIGNS: Final = re.compile("[,;]")


def category_of(path: Path, place: str, item: object) -> Category:
    """The category that an entry of a YAML vocabulary describes: a name, or a mapping.

    Args:
        path: of the vocabulary, which examples are relative to; place: of the entry, for errors.
        item: the entry.

    Raises:
        VocabularyError: it is not usable.
    """
    if not isinstance(item, dict):
        return Category(name=checked_name(path, place, item))
    check_keys(path, place, item, _KEYS)
    if "name" not in item:
        raise VocabularyError(f"Vocabulary {path}, {place} has no `name`; add one.")
    name = checked_name(path, place, item["name"])
    synonyms = tuple(
        checked_name(path, f"{place}, synonym {number}", synonym)
        for number, synonym in enumerate(_list(path, place, item, "synonyms"), start=1)
    )
    _check_synonyms(path, place, name, synonyms)
    prompts = tuple(_prompts(path, place, item))
    external_id = item.get("id")
    # `bool` is a kind of `int` in Python, but `id: yes` is a mistake.
    if isinstance(external_id, bool) or not isinstance(external_id, str | int | None):
        raise VocabularyError(
            f"Vocabulary {path}, {place}: `id` must be a whole number or a text, not"
            f" {kind_of(external_id)}; write it in quotes."
        )
    require_text(path, place, str(external_id))
    return Category(
        name=name,
        prompts=prompts,
        synonyms=synonyms,
        external_id=external_id,
        not_these=_not_these(path, place, item, (name, *synonyms)),
        examples=tuple(_examples(path, place, item)),
        name_weight=_name_weight(path, place, item),
    )


def _not_these(
    path: Path, place: str, item: dict[object, object], own_names: Sequence[str]
) -> tuple[str, ...]:
    texts = tuple(
        checked_name(path, f"{place}, `not` {number}", text)
        for number, text in enumerate(_list(path, place, item, "not"), start=1)
    )
    for number, text in enumerate(texts):
        if compared_name(text) in map(compared_name, own_names):
            raise VocabularyError(
                f"Vocabulary {path}, {place}: {text!r} under `not` is a name of the category"
                " itself, so that nothing could be kept; write what else it could mean."
            )
        if compared_name(text) in map(compared_name, texts[:number]):
            raise VocabularyError(
                f"Vocabulary {path}, {place}: {text!r} is there twice under `not`; delete one."
            )
    return texts


def _examples(path: Path, place: str, item: dict[object, object]) -> Iterable[str]:
    for example in _list(path, place, item, "examples"):
        if not isinstance(example, str) or not example.strip():
            raise VocabularyError(
                f"Vocabulary {path}, {place}: an example must be the path or the URI of an image,"
                f" not {kind_of(example)}."
            )
        require_text(path, place, example)
        if is_local(example):
            # Beside the vocabulary: a list and its images can be moved together.
            yield str(path.absolute().parent / user_path(local_path(example)))
        else:
            refuse_secrets(example)
            yield example


def _name_weight(path: Path, place: str, item: dict[object, object]) -> float:
    weight = item.get("name_weight", DEFAULT_NAME_WEIGHT)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise VocabularyError(
            f"Vocabulary {path}, {place}: `name_weight` must be a number from 0, examples alone, to"
            f" 1, not {kind_of(weight)}."
        )
    if "name_weight" in item and not item.get("examples"):
        raise VocabularyError(
            f"Vocabulary {path}, {place}: `name_weight` weighs the name against `examples`, and"
            " there are none; add some, or delete it."
        )
    return float(weight)


def _prompts(path: Path, place: str, item: dict[object, object]) -> Iterable[str]:
    for prompt in _list(path, place, item, "prompts"):
        if not isinstance(prompt, str) or not prompt.strip():
            raise VocabularyError(
                f"Vocabulary {path}, {place}: a prompt must be a text, not {kind_of(prompt)}; write"
                f" it in quotes."
            )
        require_text(path, place, prompt)
        count_fields(prompt, f"Vocabulary {path}, {place}", "prompt")
        yield prompt


def _list(path: Path, place: str, item: dict[object, object], key: str) -> list[object]:
    # A key that is left blank, `synonyms:`, reads as null and means an empty list.
    values = item.get(key) or []
    if not isinstance(values, list):
        raise VocabularyError(
            f"Vocabulary {path}, {place}: `{key}` must be a list, not {kind_of(values)}; write"
            f" `{key}: [...]`."
        )
    return values


def checked_name(path: Path, place: str, value: object) -> str:
    """A name without white space at its ends; raises VocabularyError where it is none."""
    if not isinstance(value, str):
        raise VocabularyError(
            f"Vocabulary {path}, {place}: a name must be a text, and YAML reads this one as"
            f" {kind_of(value)}; write it in quotes."
        )
    name = value.strip()
    if not name:
        raise VocabularyError(f"Vocabulary {path}, {place} has an empty name; fill or delete it.")
    require_text(path, place, name)
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise VocabularyError(
            f"Vocabulary {path}, {place}: the name {name!r} has a line break, a tab or another"
            f" control character inside; write it on one line."
        )
    return name


def require_text(path: Path, place: str, text: str) -> None:
    """Refuse, with a VocabularyError, text that is no Unicode."""
    if not is_text(text):
        raise VocabularyError(
            f"Vocabulary {path}, {place}: {text!r} has half a pair of surrogates, which no text"
            " encoder can read; write the character itself."
        )


def refuse_list(path: Path, place: str, text: str) -> None:
    """Refuse a list such as `heart,star` as one category: CLIP would take it without complaint."""
    first, *others = (part.strip() for part in _LIST_SIGNS.split(text))
    if others:
        raise VocabularyError(
            f"Vocabulary {path}, {place}: {text!r} looks like a list; write each name on a line of"
            " its own if these are several categories, or, for other names of one, in YAML"
            f" `{{name: {first}, synonyms: [{', '.join(others)}]}}`; a name that really has this"
            " sign is written in quotes, in YAML."
        )


def _check_synonyms(path: Path, place: str, name: str, synonyms: tuple[str, ...]) -> None:
    # A synonym given twice would silently count twice in the average.
    seen = {compared_name(name)}
    for synonym in synonyms:
        if compared_name(synonym) in seen:
            raise VocabularyError(
                f"Vocabulary {path}, {place}: the synonym {synonym!r} repeats the name or another"
                f" synonym; delete it."
            )
        seen.add(compared_name(synonym))


def check_keys(path: Path, place: str, mapping: dict[object, object], valid: Sequence[str]) -> None:
    """Refuse, with a VocabularyError, a key that is not among the valid ones."""
    for key in mapping:
        if key in valid:
            continue
        near = nearest_words(str(key), valid)
        meant = f"; did you mean `{near[0]}`?" if near else "."
        raise VocabularyError(
            f"Vocabulary {path}, {place}: there is no key `{key}`, only {', '.join(valid)} (a name"
            f" that contains a colon needs quotes){meant}"
        )


def compared_name(name: str) -> str:
    """The name as names are compared: without regard to case."""
    return unicodedata.normalize("NFC", name.strip()).casefold()


def nearest_words(word: str, words: Iterable[str]) -> list[str]:
    """Those of the words that are spelled much like a word, the nearest first."""
    return difflib.get_close_matches(word.lower(), list(words), cutoff=0.5)


def kind_of(value: object) -> str:
    """A value as its author would call it: YAML turns an unquoted `no` into false."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    return f"a {type(value).__name__}"
