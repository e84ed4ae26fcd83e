"""Mistakes in settings, each as one sentence with the nearest right word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from storage.errors.exceptions import ConfigError
from storage.errors.numbers import LARGEST, shown
from storage.errors.sentences import nearest
from storage.files.json_files import is_text

_TOO_LARGE: Final = ("less_than_equal", "finite_number")


def flag(name: str) -> str:
    """`--per-category` for `per_category`, `--json` for `json_`, which is taken without the end."""
    return f"--{name.rstrip('_').replace('_', '-')}"


def literal_values(annotation: Any) -> Iterator[Any]:
    """The values of all `Literal`s in an annotation."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for inner in get_args(annotation):
            yield from literal_values(inner)


def sentence_of(error: ValidationError, subject: str, fields: Mapping[str, FieldInfo]) -> str:
    """The first of pydantic's errors, for a user.

    Args:
        error: of a settings class.
        subject: what the settings are of, such as training.
        fields: of the class.
    """
    first = error.errors()[0]
    name, *inner = map(str, first["loc"] or ("",))
    kind, value = first["type"], shown(first["input"])
    if kind == "extra_forbidden":
        others = nearest(name, fields) or f", only {', '.join(fields)}."
        return f"There is no setting {name} of the {subject}{others}"
    if (kind == "missing" and not inner) or (kind == "too_short" and not first["input"]):
        return f"The {subject} needs {name}: give {flag(name)} or {name}=VALUE."
    annotation = fields[name].annotation if name in fields else None
    if kind in ("missing", "too_long"):
        return f"{name} is {value}: give {len(get_args(annotation))} values."
    if kind == "literal_error":
        return wrong_choice(name, first["input"], annotation)
    largest = first.get("ctx", {}).get("le", LARGEST)
    if kind in _TOO_LARGE and largest >= LARGEST:
        return f"{name} is {value}: choose a number of at most {largest:,}."
    message = str(first["ctx"]["error"]) if kind == "value_error" else first["msg"]
    return f"{name or subject} is {value}: {message[0].lower()}{message[1:]}."


def wrong_choice(name: str, given: Any, annotation: Any) -> str:
    """The sentence on a value that is none of an annotation's `Literal`s."""
    choices = [str(each) for each in literal_values(annotation) if each]
    *others, last = choices
    listed = f"{', '.join(others)} or {last}" if others else last
    return f"{name} is {shown(given)}: choose {listed}{nearest(str(given), choices) or '.'}"


def refuse_other_bytes(given: Mapping[Any, Any]) -> None:
    """Manifests, Prefect and its database hold UTF-8 alone.

    Raises:
        ConfigError: a text is of other bytes.
    """
    for name, value in given.items():
        texts = value if isinstance(value, list | tuple) else (value,)
        for text in texts:
            if isinstance(text, str) and not is_text(text):
                raise ConfigError(
                    f"{name} is {text!r}, whose bytes are no UTF-8: give another name; for a file"
                    " or folder, a link will do."
                )
