"""Published data sets: their layout and sources, and which parts are on this disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from storage.annotations.evaluation_set import EvaluationSet
from storage.errors.exceptions import CorpusError
from storage.files.user_files import FILE_LIST, read_path


def read_list(path: Path) -> str:
    """The text of one of a data set's lists; bytes that are not UTF-8 are replaced.

    Raises:
        CorpusError: it can't be read, or is too large to be one.
    """
    try:
        return read_path(path, FILE_LIST).decode("utf-8", errors="replace")
    except OSError as error:
        raise CorpusError(f"The list {path} can't be read: {error.strerror}.") from error


@dataclass(frozen=True)
class RequiredPath:
    """A file or folder that is a part of a data set.

    Attributes:
        path: relative to the data set's folder.
        files: how many files the published folder has, in all folders below it; 0 for "not
            counted".
        elsewhere: other places for the same, relative likewise.
    """

    path: str
    files: int = 0
    elsewhere: tuple[str, ...] = ()

    def find(self, folder: Path) -> Path | None:
        """Where it is; None if it is nowhere, or an empty folder."""
        for path in (self.path, *self.elsewhere):
            place = folder / path
            if place.is_file() or (place.is_dir() and any(place.iterdir())):
                return place
        return None

    def missing(self, folder: Path, *, counting: bool) -> str | None:
        """The missing part, for messages; None if nothing is missing."""
        place = self.find(folder)
        if place is None:
            return str(folder / self.path)
        if not counting or not self.files:
            return None
        found = sum(len(names) for _, _, names in os.walk(place, followlinks=True))
        if found >= self.files:
            return None
        return f"{place} ({found:,} of {self.files:,} files)"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A published data set.

    Attributes:
        name: its spec for `open_evaluation_set`.
        what: one line of description.
        folders: its place below the folder of all data, as published and as the ZUTIS
            reference has it; the one with the fewest missing parts is used.
        requires: its files and folders.
        images: number of images that it is scored on, as published.
        sources: addresses to get it from, with instructions.
        reader: opens it, given its own folder.
    """

    name: str
    what: str
    folders: tuple[str, ...]
    requires: tuple[RequiredPath, ...]
    images: int
    sources: tuple[str, ...]
    reader: Callable[[Path], EvaluationSet]

    def folder(self, root: Path) -> Path:
        """The data set's own folder below `root`: the one with the fewest missing parts."""
        places = [root / folder for folder in self.folders]
        return min(places, key=lambda place: len(self._missing(place, counting=False)))

    def missing(self, root: Path, *, counting: bool = True) -> list[str]:
        """The parts that are missing.

        Args:
            root: the folder of all data.
            counting: whether files are counted too, which walks through the folders.

        Returns:
            Paths, with the number of files where a folder has too few; empty if all is there.
        """
        return self._missing(self.folder(root), counting=counting)

    def open(self, root: Path) -> EvaluationSet:
        """Open the data set.

        Raises:
            CorpusError: a part of it is missing, or its parts don't match.
        """
        if missing := self.missing(root, counting=False):
            raise CorpusError(
                f"The data set {self.name} is not complete: there is no"
                f" {' and no '.join(missing)}; get it from {' and '.join(self.sources)}."
            )
        return self.reader(self.folder(root))

    def _missing(self, folder: Path, *, counting: bool) -> list[str]:
        missing = [required.missing(folder, counting=counting) for required in self.requires]
        return [part for part in missing if part is not None]
