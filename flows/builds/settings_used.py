"""The settings and keys of a build, as the manifests of its artifacts have them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flows.builds.found import FoundBuild
from flows.execution.stages import STAGES
from storage.artifacts.store import Artifact

_KEYS: Final = 3


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """What a stage was told, and what it made.

    Attributes:
        settings: names and values, as its key has them.
        keys: of its artifacts, the first ones.
        artifacts: how many there are.
    """

    stage: str
    version: int
    settings: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]
    artifacts: int


def settings_used(build: FoundBuild) -> tuple[StageSettings, ...]:
    """What each stage was told and made, in the order of the stages."""
    return tuple(
        _of_stage(stage, build.artifacts[stage]) for stage in STAGES if stage in build.artifacts
    )


def _of_stage(stage: str, made: list[Artifact]) -> StageSettings:
    values: dict[str, list[str]] = {}
    for artifact in made:
        for name, value in settings_of(artifact).items():
            known = values.setdefault(name, [])
            if value not in known:
                known.append(value)
    return StageSettings(
        stage=stage,
        version=int(made[0].manifest["version"]),
        settings=tuple((name, "; ".join(sorted(several))) for name, several in values.items()),
        keys=tuple(artifact.key for artifact in made[:_KEYS]),
        artifacts=len(made),
    )


def settings_of(artifact: Artifact) -> dict[str, str]:
    """The settings in an artifact's key and the digests of its weights, as text, by name; a setting
    at its default may be left out."""
    manifest = artifact.manifest
    config = dict(_flat(manifest["config"]))
    weights = {f"weights of {name}": str(value) for name, value in manifest["weights"].items()}
    return dict(sorted((config | weights).items()))


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{above}{name}", text
