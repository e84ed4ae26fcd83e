"""Settings as users write them on the command line: NAME=VALUE, or a YAML file of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from storage.errors.exceptions import ConfigError
from storage.errors.numbers import shown
from storage.files.regular_files import UnsuitableFileError
from storage.files.user_files import SETTINGS, read_path
from storage.files.yaml_files import load_plain_yaml

_Settings = TypeVar("_Settings", bound=BaseModel)


def read_values(items: Sequence[str]) -> dict[str, Any]:
    """What `--training iterations=30 --training recipe.yaml` says; later ones win.

    Values are YAML: `crop=96`, `jitter=[0.4, 0.4, 0.4, 0.1]`, `leave_out=[cat, dog]`.

    Raises:
        ConfigError: a file or value that is no YAML, or a file without a mapping.
    """
    values: dict[str, Any] = {}
    for item in items:
        name, separator, text = item.partition("=")
        if separator and name.isidentifier():
            values[name] = _parsed(text, f"the value of {name}")
        else:
            values |= _read_file(Path(item))
    return values


def make_settings(kind: type[_Settings], values: dict[str, Any], what: str) -> _Settings:
    """Settings from named values.

    Args:
        kind: their pydantic model.
        values: by name.
        what: the settings are of, for the error: `training`.

    Raises:
        ConfigError: a name that there is not, or a value that can't be.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        raise ConfigError(_sentence(error, kind, what)) from error


def _sentence(error: ValidationError, kind: type[BaseModel], what: str) -> str:
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"])) or what
    if first["type"] == "extra_forbidden":
        return f"There is no setting {name} of the {what}, only {', '.join(kind.model_fields)}."
    if first["type"] == "missing":
        return f"The setting {name} of the {what} is not given: give {name}=VALUE."
    return f"{name} is {shown(first['input'])}: {first['msg'][0].lower()}{first['msg'][1:]}."


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = read_path(path, SETTINGS).decode("utf-8")
    except UnsuitableFileError as error:
        raise ConfigError(f"The file {path} can't be read: {error.strerror}.") from error
    except (OSError, ValueError) as error:  # missing, no text, or no name that a file can have
        raise ConfigError(
            f"{str(path)!r} is neither NAME=VALUE nor a file that can be read; write for example "
            "iterations=1000, or name a YAML file."
        ) from error
    values = _parsed(text, f"the file {path}")
    if not isinstance(values, dict):
        raise ConfigError(f"The file {path} holds no settings: write one NAME: VALUE a line.")
    return {str(name): value for name, value in values.items()}


def _parsed(text: str, what: str) -> Any:
    try:
        return load_plain_yaml(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"There is a mistake in {what}: {reason}.") from error
