"""Settings as NAME=VALUE or from a YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from storage.errors.exceptions import ConfigError
from storage.files.regular_files import UnsuitableFileError
from storage.files.user_files import SETTINGS, read_path
from storage.files.yaml_files import load_plain_yaml


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
            continue
        try:
            values |= read_file(item)
        except FileNotFoundError as error:
            raise ConfigError(
                f"{item!r} is neither NAME=VALUE nor a file that can be read; write for example "
                "iterations=1000, or name a YAML file."
            ) from error
    return values


def read_config(place: str) -> dict[str, Any]:
    """The settings in the file of `--config`, by name.

    Raises:
        ConfigError: the file can't be read, or holds no mapping.
    """
    try:
        return read_file(place)
    except FileNotFoundError as error:
        raise ConfigError(
            f"config is {place!r}: there is no such file that can be read; name a YAML file."
        ) from error


def read_file(place: str) -> dict[str, Any]:
    """The settings in a YAML file, by name; `-` and `_` in names are the same.

    Raises:
        ConfigError: the file is of no suitable kind, or holds no mapping.
        FileNotFoundError: it can't be read as text.
    """
    path = Path(place)
    try:
        text = read_path(path, SETTINGS).decode("utf-8")
    except UnsuitableFileError as error:
        raise ConfigError(f"The file {path} can't be read: {error.strerror}.") from error
    except (OSError, ValueError) as error:  # missing, no text, or no name that a file can have
        raise FileNotFoundError(place) from error
    values = _parsed(text, f"the file {path}")
    if not isinstance(values, dict):
        raise ConfigError(f"The file {path} holds no settings: write one NAME: VALUE a line.")
    return {str(name).replace("-", "_"): value for name, value in values.items()}


def _parsed(text: str, what: str) -> Any:
    try:
        return load_plain_yaml(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"There is a mistake in {what}: {reason}.") from error
