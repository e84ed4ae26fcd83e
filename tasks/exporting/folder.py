"""The folder of an export: written beside its place, and put there whole.

A file in it says that it is an export, and what the export put into the folder. Only such a folder
is ever replaced, and only if nothing else is in it.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from storage.errors.exceptions import ConfigError
from storage.errors.sentences import listed
from storage.files.filesystems import translated_errors
from storage.files.user_files import user_path

MARKER: Final = "zutis-export.json"
"""The file that says what the folder is; its key `entries` has what the export put beside it."""

_NAMED: Final = 5


def place_of(out: Path) -> Path:
    """The folder that a user has named, without links and `..` in its path.

    Raises:
        StorageError: no folder can have this name.
    """
    with translated_errors("write", str(out)):
        return user_path(str(out)).resolve()


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Check that an export may take a folder's place, without changing anything.

    Args:
        out: of `place_of`.
        overwrite: an older export may be replaced.

    Raises:
        ConfigError: it is a file; or a folder that is not empty and no export, holds other files
            beside those of an export, or may not be replaced.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is a file: name a folder for the export.")
    there = {path.name for path in out.iterdir()}
    if not there:
        return
    entries = _entries(out / MARKER)
    if entries is None:
        raise ConfigError(
            f"The folder {out} is not empty and no export, so it stays as it is: name another one."
        )
    if others := sorted(there - entries - {MARKER}):
        raise ConfigError(
            f"The folder {out} holds {listed(others, _NAMED)} beside an older export, and replacing"
            " it would delete that: move it, or name another folder."
        )
    if not overwrite:
        raise ConfigError(
            f"The folder {out} holds an older export: name another one, or use --overwrite to "
            "replace it."
        )


@contextmanager
def new_export(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder to write an export to, which takes the place of `out` if the block ends well.

    If it doesn't, nothing is left of it, and an older export is as it was.

    Raises:
        ConfigError: as `check_folder`.
        StorageError: the folder can't be written, or the disk is full.
    """
    check_folder(out, overwrite=overwrite)
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with translated_errors("write", str(out)):
            part.mkdir(parents=True)
            yield part
            check_folder(out, overwrite=overwrite)  # exports may be long
            _put(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def mark(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the file that says what the folder is, after all others."""
    entries = sorted(path.name for path in folder.iterdir())
    text = json.dumps({**facts, "entries": entries}, indent=1, ensure_ascii=False)
    (folder / MARKER).write_text(f"{text}\n", encoding="utf-8")


def _entries(marker: Path) -> set[str] | None:
    """What an export put into its folder; None if it is none."""
    try:
        entries = json.loads(marker.read_bytes())["entries"]
        return {str(entry) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _put(part: Path, out: Path) -> None:
    """Rename a folder to the place of an older one, which is deleted then."""
    old = part.with_suffix(".old")
    if out.exists():
        out.rename(old)
    try:
        part.rename(out)
    except BaseException:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
