"""`zutis.open_dataset`: a data set as a sequence of images with their labels.

Dimensions:
    h, w  rows, columns of an image
"""

from __future__ import annotations

import json
import operator
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from flows.settings.shared import DEFAULT_STORE
from flows.upkeep.find_artifacts import LATEST, is_key

if TYPE_CHECKING:
    from storage.artifacts.store import Artifact
    from storage.shards.samples import ShardSamples


@dataclass(frozen=True)
class Sample:
    """One image and its label.

    Attributes:
        key: the image_id, sha256 of the source's bytes.
        image: uint8 [h, w, 3], RGB, upright.
        labels: [h, w]: 0 background, a category_id, or the data set's ignore label; uint8, or
            uint16 with more than 254 categories.
        facts: the sample's JSON: categories, scores, the mask as COCO RLE, the source.
    """

    key: str
    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8 | np.uint16]
    facts: dict[str, Any]


class Dataset(Sequence[Sample]):
    """The samples of a built data set, with random access; also a `torch.utils.data` data set.

    Attributes:
        folder: path or URI of the shards, `index.parquet` and the data set card.
        categories: names by category_id.
        ignore_label: label of ignored pixels.
    """

    def __init__(self, samples: ShardSamples, folder: str) -> None:
        self._samples = samples
        self.folder = folder
        self.categories = samples.categories
        self.ignore_label = samples.ignore_label

    @classmethod
    def of(cls, artifact: Artifact, leave_out: Collection[str] = ()) -> Dataset:
        """The data set that a build has published."""
        from storage.shards.samples import ShardSamples

        return cls(ShardSamples.open(artifact, leave_out), artifact.location)

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """Read and decode samples.

        Raises:
            ArtifactError: a shard is missing or damaged.
            IndexError: there is no such sample.
        """
        if isinstance(index, slice):
            return [self._read(i) for i in range(*index.indices(len(self)))]
        return self._read(range(len(self))[operator.index(index)])

    def __iter__(self) -> Iterator[Sample]:
        return (self._read(i) for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<{len(self):,} samples of {len(self.categories):,} categories in {self.folder}>"

    def _read(self, i: int) -> Sample:
        samples = self._samples
        stored = samples.read(i)
        size = (int(samples.heights[i]), int(samples.widths[i]))
        return Sample(
            key=samples.key(i),
            image=np.array(samples.decode_image(i, stored.jpeg, least=size)),
            labels=samples.decode_labels(i, stored.mask),
            facts=json.loads(stored.facts),
        )


def open_dataset(
    place: str | Path = LATEST, *, leave_out: Collection[str] = (), store: str = DEFAULT_STORE
) -> Dataset:
    """Open a data set that was built before.

    Args:
        place: path or URI of its folder; its key or a prefix of it; or `latest`.
        leave_out: names of categories to exclude; the others are renumbered from 1.
        store: the artifact store in which keys and `latest` are searched.

    Raises:
        ArtifactError: it is missing or damaged.
        ConfigError: a category to leave out is not in the data set.
        StorageError: it can't be read.
    """
    from flows.pipelines.training import find_dataset
    from storage.artifacts.store import ArtifactStore
    from storage.shards.samples import ShardSamples

    name = str(place)
    if (name == LATEST or is_key(name)) and not Path(name).exists():
        key = "" if name == LATEST else name
        return Dataset.of(find_dataset(ArtifactStore(store), key), leave_out)
    return Dataset(ShardSamples.open(place, leave_out), name)
