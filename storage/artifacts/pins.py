"""Pins: artifacts that garbage collection keeps, one small file each under `STORE/.pins/`."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.files.filesystems import is_local, list_folder, resolve, translated_errors

FOLDER = ".pins"


def pin(store: ArtifactStore, ref: ArtifactRef, note: str = "") -> None:
    """Keep an artifact; pinning it again replaces the note.

    Raises:
        StorageError: the store can't be written.
    """
    uri = _uri(store, ref)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    text = json.dumps({"pinned": now, "note": note}, ensure_ascii=False).encode()
    with translated_errors("write", uri):
        filesystem, path = resolve(uri)
        if is_local(uri):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        filesystem.pipe_file(path, text)


def unpin(store: ArtifactStore, ref: ArtifactRef) -> None:
    """Remove an artifact's pin; it is not an error if it isn't pinned.

    Raises:
        StorageError: the store can't be written.
    """
    uri = _uri(store, ref)
    with translated_errors("delete", uri):
        filesystem, path = resolve(uri)
        with contextlib.suppress(FileNotFoundError):
            filesystem.rm_file(path)


def pinned(store: ArtifactStore) -> list[ArtifactRef]:
    """All pinned artifacts, by stage and key; some of them may not exist.

    Only the names of the files matter, so that a damaged one still pins.

    Raises:
        StorageError: the store can't be read.
    """
    found = list_folder(f"{store.root}/{FOLDER}")
    names = [str(name).rstrip("/").rsplit("/", 1)[-1] for name in found]
    pairs = [name.removesuffix(".json").split(".", 1) for name in names if name.endswith(".json")]
    return sorted((ArtifactRef(*pair) for pair in pairs if len(pair) == 2), key=str)


def _uri(store: ArtifactStore, ref: ArtifactRef) -> str:
    return f"{store.root}/{FOLDER}/{ref.stage}.{ref.key}.json"
