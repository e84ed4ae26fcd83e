"""Embeddings by the names of images, on disk: found by a binary search, memory-mapped.

Dimensions:
    n  rows
    d  width of an embedding
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from storage.given_embeddings.names import name_digests


@dataclass(frozen=True, eq=False)
class NamedRows:
    """Rows of embeddings by the digests of names.

    Attributes:
        digests: uint64 [m], ascending, each once.
        places: int64 [m], the row of each.
        rows: float16 [n, d] of unit length.
    """

    digests: NDArray[np.uint64]
    places: NDArray[np.int64]
    rows: NDArray[np.float16]

    def find(self, names: Iterable[str]) -> int | None:
        """The row of the first of an image's names that has one; None if none does."""
        for digest in name_digests(names):
            at = int(np.searchsorted(self.digests, digest))
            if at < len(self.digests) and self.digests[at] == digest:
                return int(self.places[at])
        return None


@dataclass
class NameIndex:
    """The names of rows as they come, and what becomes of names that several rows have.

    Attributes:
        unnamed: rows without a name.
        repeated: rows with a name that an earlier one has, and the same numbers.
        ambiguous: rows with a name that another row with other numbers has: none of them is used.
    """

    unnamed: int = 0
    repeated: int = 0
    ambiguous: int = 0
    _digests: list[NDArray[np.uint64]] = field(default_factory=list)

    def add(self, names: list[str]) -> None:
        """Names of the next rows, '' for none."""
        self.unnamed += sum(not name for name in names)
        # Rows without a name get digest 0, which `finished` leaves out.
        digests = name_digests(names).copy()
        digests[[not name for name in names]] = 0
        self._digests.append(digests)

    def finished(self, rows: NDArray[np.float16]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """`digests` and `places` of `NamedRows`.

        Args:
            rows: [n, d], all that were added.
        """
        digests = np.concatenate([np.empty(0, np.uint64), *self._digests])
        order = np.argsort(digests, kind="stable")
        order = order[digests[order] != 0]
        ordered = digests[order]
        first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else order
        ends = np.r_[first[1:], len(ordered)]
        unique = np.ones(len(first), np.bool_)
        for group in np.flatnonzero(ends - first > 1):
            same = order[first[group] : ends[group]]
            if (rows[same] == rows[same[0]]).all():
                self.repeated += len(same) - 1
            else:
                self.ambiguous += len(same)
                unique[group] = False
        return ordered[first[unique]], order[first[unique]].astype(np.int64)
