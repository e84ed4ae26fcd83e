"""A build's settings in its record, so that it can be run again without its command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from flows.settings.build import BuildSettings
from storage.artifacts.store import Artifact
from storage.errors.exceptions import ArtifactError, ConfigError

_SETTINGS: Final = "settings"
_FOLDER: Final = "folder"

# How a run is made, which is for whoever makes it again.
_OF_THE_RUN: Final = ("store", "repair", "device", "workers", "runner", "ray_address")


def as_given(settings: BuildSettings) -> dict[str, Any]:
    """Notes for a record: settings that differ from the defaults, and the folder that relative
    paths among them start from."""
    given = settings.model_dump(mode="json", exclude_defaults=True, exclude={*_OF_THE_RUN})
    return {_SETTINGS: given, _FOLDER: str(Path.cwd())}


def settings_of_record(record: Artifact, **run: Any) -> tuple[BuildSettings, str]:
    """The settings of a recorded build, and the folder in which it ran.

    Args:
        record: of `record_build`.
        run: the settings of the new run, such as its store.

    Raises:
        ArtifactError: the record has none, or such that this version does not take.
    """
    given = record.notes.get(_SETTINGS)
    if given is None:
        raise ArtifactError(
            f"The build {record.key[:12]} was recorded before settings were kept: run its own "
            "command again, which asks again for what could not be read."
        )
    try:
        return BuildSettings(**given, **run), str(record.notes[_FOLDER])
    except ConfigError as error:
        raise ArtifactError(
            f"The build {record.key[:12]} was made by another version, with settings that this one "
            f"does not take ({error}): run its command again."
        ) from error
