"""Manifests: the JSON that describes an artifact and lists its files."""

from __future__ import annotations

from typing import Any, Final

from storage.files.json_files import parse_json

FORMAT: Final = 1
_MAPPINGS: Final = ("config", "weights", "inputs", "counts", "notes")


def parse_manifest(text: bytes, stage: str, key: str) -> dict[str, Any]:
    """A manifest that has everything its readers take for granted.

    Raises:
        ValueError: it has not; the text goes on from the manifest's name.
    """
    try:
        manifest: dict[str, Any] = parse_json(text)
        known = manifest["format"] == FORMAT
        whole = not known or (
            (manifest["stage"], manifest["key"]) == (stage, key)
            and isinstance(manifest["attempt"], str)
            and all(isinstance(manifest[name], dict) for name in _MAPPINGS)
            and all(_is_file_entry(entry) for entry in manifest["files"])
        )
    except (ValueError, KeyError, TypeError):
        known, whole = True, False
    if not known:
        raise ValueError("has a format that this version of zutis does not read")
    if not whole:
        raise ValueError(f"is not the manifest of {stage}/{key}")
    return manifest


def _is_file_entry(entry: Any) -> bool:
    return (
        isinstance(entry["name"], str)
        and isinstance(entry["size"], int)
        and isinstance(entry["sha256"], str)
    )
