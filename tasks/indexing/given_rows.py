"""Embeddings that a user has, as the images of a part take them: checked against the network.

Dimensions:
    d  width of an embedding
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.embeddings.parts import open_embeddings
from storage.errors.exceptions import ConfigError, CorpusError
from storage.files.filesystems import display
from storage.given_embeddings.table import NamedRows
from tasks.stage.layout import EMBEDDINGS

STAGE: Final = "import_embeddings"

NAMES: Final = "names.npy"
"""uint64 [2, m] beside `embeddings.npy`: ascending digests of names, and the row of each."""

LEAST_MEDIAN: Final = 0.97
"""Least median of the cosines of given embeddings with the network's own. Half precision and
another JPEG decoder leave 0.99 or more; another network's, or other weights of the same
architecture, have none of that."""

LEAST_ALIKE: Final = 0.9
"""An image whose own cosine is below this is not the one that was embedded."""

_FIRST: Final = 8


def open_given_rows(key: str, store: ArtifactStore) -> NamedRows | None:
    """The rows of an artifact of `import_embeddings`, memory-mapped where it is on a local disk;
    None for no key.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    if not key:
        return None
    artifact = store.get(ArtifactRef(STAGE, key))
    digests, places = open_embeddings(artifact, NAMES)
    return NamedRows(digests, places.astype(np.int64), open_embeddings(artifact, EMBEDDINGS))


def is_compared(number: int) -> bool:
    """Whether the image of this number, from 0, of a part is embedded by the network, too: the
    first eight, and every one at a power of two."""
    return number < _FIRST or number & (number - 1) == 0


@dataclass
class GivenRows:
    """The given embeddings, with a record of which images of a part took them.

    Attributes:
        named: all that are given.
        taken: number of images that took a row.
        changed: images whose embedding by the network is another than the given one, which they
            keep.
    """

    named: NamedRows
    taken: int = 0
    changed: int = 0
    _owners: dict[int, dict[str, Any]] = field(default_factory=dict)
    _cosines: list[float] = field(default_factory=list)

    def row_of(
        self, place: int, record: dict[str, Any], own: NDArray[np.float16] | None
    ) -> NDArray[np.float16]:
        """The row float16 [d] of an image.

        Args:
            place: of its given row.
            record: of the image.
            own: its embedding by the network, where that was computed, to compare.

        Raises:
            CorpusError: two images of the part go by the name of one given row.
        """
        other = self._owners.setdefault(place, record)
        if other["image_id"] != record["image_id"]:
            raise CorpusError(
                f"{_place_of(other)} and {_place_of(record)} go by the same name in the given "
                "embeddings, so that nothing says whose the row is: leave one of them out with "
                "--exclude, or build without --embeddings."
            )
        row: NDArray[np.float16] = self.named.rows[place]
        if own is not None:
            cosine = float(own.astype(np.float32) @ row.astype(np.float32))
            self._cosines.append(cosine)
            if len(self._cosines) == _FIRST:  # before thousands are read in vain
                self.check()
            if cosine < LEAST_ALIKE:
                self.changed += 1
                return own
        self.taken += 1
        return row

    def check(self) -> None:
        """Check that the network agrees with the given embeddings, where both are there.

        Raises:
            ConfigError: it doesn't.
        """
        if self._cosines and (middle := median(self._cosines)) < LEAST_MEDIAN:
            raise ConfigError(
                f"The given embeddings are not those of this CLIP: of {len(self._cosines)} images "
                f"that were embedded again, half have a cosine below {middle:.2f} with what is "
                f"given ({LEAST_MEDIAN} is the least). Name the CLIP that made them with --clip."
            )

    def counts(self) -> dict[str, int]:
        """For a manifest: `given` embeddings that were taken, `compared` ones, and `changed`."""
        return {"given": self.taken, "compared": len(self._cosines), "changed": self.changed}


def _place_of(record: dict[str, Any]) -> str:
    member = record["member"]
    return display(record["uri"]) + (f" ({display(member)})" if member else "")
