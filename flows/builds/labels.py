"""The labels of a build's data set, one a labelled object, with what the build knows of each.

Dimensions:
    n  labels
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.builds.found import FoundBuild
from storage.artifacts.store import Artifact
from storage.images.records import read_parquet
from storage.shards.samples import ShardSamples
from tasks.stage.layout import SAMPLES

_FACTS = ["category_id", "rank", "score", "quality"]


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels in the order of their samples.

    Attributes:
        samples: the data set; `samples.objects` has the labels' samples, places and categories.
        rank: int64 [n], of the image among those of the category, from 1; 0 where not known.
        score: float64 [n], cosine of image and category; NaN where not known.
        quality: float64 [n], 0..1; NaN where it was not estimated.
    """

    samples: ShardSamples
    rank: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    quality: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rank)

    @property
    def judged(self) -> bool:
        """Whether any label has a quality."""
        return bool(np.isfinite(self.quality).any())

    def best_first(self, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Indices of labels, the best first: by quality, those without one last, then by rank."""
        quality = np.nan_to_num(self.quality[chosen], nan=-1.0)
        rank = np.where(self.rank[chosen] > 0, self.rank[chosen], np.iinfo(np.int64).max)
        return chosen[np.lexsort((chosen, rank, -quality))]

    def image_id(self, label: int) -> str:
        return self.samples.key(int(self.samples.objects.samples[label]))

    def category(self, label: int) -> int:
        """The label's category_id."""
        return int(self.samples.objects.labels[label])


def load_labels(build: FoundBuild) -> Labels:
    """The labels of a build: its shards' index, joined with the plan's table.

    Raises:
        ArtifactError: a file is missing or damaged, or there is no sample.
    """
    samples = ShardSamples.open(build.dataset)
    planned, objects = _planned(build.plan)
    found = samples.objects
    facts = np.full((len(found.labels), 3), np.nan)
    rows = zip(found.samples.tolist(), found.places.tolist(), found.labels.tolist(), strict=True)
    for number, (sample, place, category) in enumerate(rows):
        image_id = samples.key(sample)
        facts[number] = planned.get((image_id, category), (np.nan,) * 3)
        if found.several:
            facts[number, 2] = objects.get((image_id, place), np.nan)
    rank = np.nan_to_num(facts[:, 0], nan=0).astype(np.int64)
    return Labels(samples, rank, facts[:, 1], facts[:, 2])


_Planned = dict[tuple[str, int], tuple[float, float, float]]


def _planned(plan: Artifact) -> tuple[_Planned, dict[tuple[str, int], float]]:
    """Rank, score and quality by image_id and category_id; with several objects an image also the
    quality of each by image_id and place."""
    with plan.open(SAMPLES) as file:
        several = "objects" in pq.ParquetFile(file).schema_arrow.names
    columns = ["image_id", "labels", *(["objects"] if several else [])]
    with plan.open(SAMPLES) as file:
        table = read_parquet(file, columns=columns)
    images, fields = _flat(table, "labels")
    values = [_numbers(fields, name) for name in _FACTS]
    planned = {
        (image_id, int(category)): (rank, score, quality)
        for image_id, category, rank, score, quality in zip(images, *values, strict=True)
    }
    if not several:
        return planned, {}
    images, fields = _flat(table, "objects")
    places = _places(images)
    quality = _numbers(fields, "quality")
    return planned, dict(zip(zip(images, places, strict=True), quality, strict=True))


def _flat(table: pa.Table, column: str) -> tuple[list[str], pa.StructArray]:
    """The image_id of each of a list's values, and the values."""
    lists = table[column].combine_chunks()
    parents = pc.list_parent_indices(lists)
    return table["image_id"].take(parents).to_pylist(), pc.list_flatten(lists)


def _numbers(fields: pa.StructArray, name: str) -> list[float]:
    if name not in [field.name for field in fields.type]:
        return [np.nan] * len(fields)
    column = pc.struct_field(fields, name).cast(pa.float64())
    numbers: list[float] = column.to_numpy(zero_copy_only=False).tolist()
    return numbers


def _places(images: list[str]) -> list[int]:
    """The place of each value in its image's list; an image's values follow one another."""
    places: list[int] = []
    for at, image_id in enumerate(images):
        places.append(places[-1] + 1 if at and images[at - 1] == image_id else 0)
    return places
