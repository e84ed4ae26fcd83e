"""Writing the page on a build: where it is, whether it is there already, and its bytes."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flows.builds.found import FoundBuild, build_of
from storage.artifacts.fingerprints import digest
from storage.artifacts.store import REPORTS, Artifact
from storage.errors.exceptions import ConfigError, ZutisError
from storage.files.durable_files import make_folder, sync_file
from storage.files.filesystems import (
    MissingFileError,
    display,
    is_local,
    local_path,
    local_uri,
    open_binary,
    resolve,
    translated_errors,
)

if TYPE_CHECKING:
    from flows.reports.thumbnails import Truth

VERSION: Final = 2
"""Of the page: raised when it changes, so that the pages of earlier versions are written anew."""

_HEAD: Final = 4_096
"""Bytes of a page in which its mark is."""


def default_place(build: FoundBuild) -> str:
    """Path or URI of a build's page beside its data set: `STORE/reports/KEY.html`."""
    return f"{build.store.root}/{REPORTS}/{build.dataset.key}.html"


def write_report(build: FoundBuild, place: str = "", truth: Truth | None = None) -> str:
    """Write the page on a build; returns its path or URI.

    The same build, with the same trainings and evaluations, gives the same bytes, as long as the
    corpus has the images that are shown of those left out.

    Args:
        build: of which.
        place: path or URI of the file; empty: `default_place`. An earlier page is replaced.
        truth: of the labels, where it is known.

    Raises:
        ConfigError: there is a file of this name, and it is no page of ours.
        ArtifactError: an artifact is missing or damaged.
        StorageError: the store can't be read, or the file can't be written.
    """
    from flows.reports.gathered import gather
    from flows.reports.page import render_report

    place = place or default_place(build)
    refuse_other_file(place)
    page = render_report(gather(build, truth), mark_of(build))
    write_page(place, page)
    return place


def write_if_new(build: FoundBuild) -> str:
    """Write the page in its place, unless that of this very build is there; returns its place."""
    place = default_place(build)
    if f'"zutis-report" content="{mark_of(build)}"'.encode() in _head(place):
        return place
    return write_report(build)


def report_at_end(dataset: Artifact, warn: Callable[[str], None]) -> str:
    """Write the page on a build that has ended, unless it is there; returns its place.

    The build is whole without it, so that a page which can't be written is a warning; the place is
    empty then.
    """
    try:
        return write_if_new(build_of(dataset))
    except ZutisError as error:
        warn(f"The page on the build could not be written, all else is there: {error}")
        return ""


def mark_of(build: FoundBuild) -> str:
    """A digest of what a page is of."""
    shown = [build.record, build.dataset, *build.trainings, *build.evaluations]
    return digest([VERSION, *(str(artifact.ref) for artifact in shown)])


def refuse_other_file(place: str) -> None:
    """Refuse to replace what is no page of ours.

    Raises:
        ConfigError: there is a folder or such a file.
    """
    if is_local(place) and Path(local_path(place)).is_dir():
        raise ConfigError(
            f"{display(place)} is a folder: give the name of a file, such as "
            f"{display(place).rstrip('/')}/report.html."
        )
    head = _head(place)
    if head and b'<meta name="generator" content="zutis">' not in head:
        raise ConfigError(
            f"{display(place)} exists and is no page of ours: give another name, or remove it."
        )


def write_page(place: str, page: bytes) -> None:
    """Write a page as a whole or not at all.

    Raises:
        StorageError: it can't be written.
    """
    with translated_errors("write", place):
        filesystem, path = resolve(place)
        if is_local(place):
            _replace(Path(path), page)
        else:
            filesystem.pipe_file(path, page)


def link_of(place: str) -> str:
    """What a browser opens: the URI of a local path, or the URI itself."""
    return Path(local_path(place)).absolute().as_uri() if is_local(place) else place


def place_of(path: Path) -> str:
    """The place of a path that a user has given."""
    return local_uri(str(path))


def _replace(path: Path, page: bytes) -> None:
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:12]}")
    try:
        with temporary.open("wb") as file:
            file.write(page)
            file.flush()
            sync_file(file)
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _head(place: str) -> bytes:
    """The beginning of a file; empty where there is none."""
    with contextlib.suppress(MissingFileError), open_binary(place) as file:
        return file.read(_HEAD)
    return b""
