"""Include and exclude patterns for the files of a corpus."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import pyarrow as pa

from storage.corpora.listing import CONTAINERS, EXCLUDED, Listing
from storage.errors.exceptions import ConfigError
from storage.files.filesystems import name_within


@dataclass(frozen=True)
class Selection:
    """The names that are taken; by default, all.

    Patterns are those of `fnmatch`, and case-sensitive: `*` matches anything, slashes too, and
    `**/` also no folder. A pattern that matches a folder matches everything in it. Names are
    relative to the corpus's root, with slashes; see `docs/corpora.md`.

    Attributes:
        include: if there are any, one of them has to match.
        exclude: none of them may match.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def of(cls, include: Sequence[str], exclude: Sequence[str]) -> Selection:
        """A selection with normalised and sorted patterns.

        Raises:
            ConfigError: a pattern is empty.
        """
        return cls(_tidy("include", include), _tidy("exclude", exclude))

    @property
    def takes_all(self) -> bool:
        return not (self.include or self.exclude)

    def takes(self, name: str, kind: str = "") -> bool:
        """Whether a file or member of this name is taken.

        Only `exclude` applies to a container itself (`kind` is one of `CONTAINERS`, such as a tar):
        `include` applies to the images in it.
        """
        if self.takes_all:
            return True
        name = _bare(name)
        if self.exclude and _pattern(self.exclude).match(name):
            return False
        return kind in CONTAINERS or not self.include or bool(_pattern(self.include).match(name))

    def of_listing(self, listing: Listing, root: str) -> Listing:
        """The listing of the taken files, with the others counted; `root`: URI of its folder."""
        if self.takes_all:
            return listing
        entries = listing.entries
        columns = (entries[name].to_pylist() for name in ("uri", "kind"))
        taken = np.array(
            [self.takes(name_within(root, uri), kind) for uri, kind in zip(*columns, strict=True)],
            dtype=bool,
        )
        ignored = Counter(listing.ignored) + Counter({EXCLUDED: int((~taken).sum())})
        return Listing(
            entries.filter(pa.array(taken)), listing.rejects, dict(sorted(ignored.items()))
        )


ALL: Final = Selection()


def _tidy(option: str, patterns: Sequence[str]) -> tuple[str, ...]:
    tidy = [_bare(pattern).rstrip("/") for pattern in patterns]
    if not all(tidy):
        raise ConfigError(
            f"A pattern of --{option} is empty: give one such as 'thumbnails/*' or '*.png', "
            "relative to the corpus."
        )
    return tuple(sorted(set(tidy)))


def _bare(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return "" if name == "." else name


@lru_cache(maxsize=8)
def _pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    spellings = [s for pattern in patterns for s in {pattern, pattern.replace("**/", "")} if s]
    return re.compile(
        "|".join(
            fnmatch.translate(f"{s}{below}") for s in sorted(spellings) for below in ("", "/*")
        )
    )
