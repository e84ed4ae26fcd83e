"""The contents of an export, read image by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.files.filesystems import is_local, local_path
from storage.files.json_files import parse_json
from storage.images.masks import mask_id
from storage.shards.samples import ShardSamples
from tasks.exporting.exported import ExportedCategory, ExportedImage, ExportedObject


@dataclass(frozen=True, eq=False)
class LabelFacts:
    """What a build knows of each of its labels, in the order of `ShardSamples.objects`.

    Attributes:
        rank: int64 [n], from 1; 0 where not known.
        score, quality: float64 [n]; NaN where not known.
    """

    rank: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    quality: npt.NDArray[np.float64]

    def of(self, label: int) -> dict[str, Any]:
        """Of one label, None where not known."""
        return {
            "rank": int(self.rank[label]) or None,
            "score": _known(self.score[label]),
            "quality": _known(self.quality[label]),
        }


@dataclass(frozen=True)
class PlannedImage:
    """An image of the export.

    Attributes:
        sample: its index among the samples.
        number, stem, split: as `ExportedImage` has them.
        source: URI of its file; member: its name in a tar or the like; both empty where not known.
        left_out: places of its objects whose labels are not exported.
    """

    sample: int
    number: int
    stem: str
    split: str
    source: str = ""
    member: str = ""
    left_out: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Contents:
    """What is exported.

    Attributes:
        name: the build's; key: of its data set.
        card: the data set card that the build wrote, Markdown.
        categories: by their labels.
        splits: names, in the order in which they were given.
        samples: the data set; facts: of its labels.
        images: in the order in which they are read.
    """

    name: str
    key: str
    card: str
    categories: tuple[ExportedCategory, ...]
    splits: tuple[str, ...]
    samples: ShardSamples
    facts: LabelFacts
    images: Sequence[PlannedImage]

    @property
    def ignore_label(self) -> int:
        """Of pixels to ignore in label maps: 255, or 65,535 where they have 16 bits."""
        return self.samples.ignore_label

    def category(self, label: int) -> ExportedCategory:
        """The category with a label."""
        return self._by_label[label]

    @cached_property
    def _by_label(self) -> Mapping[int, ExportedCategory]:
        return {each.label: each for each in self.categories}

    def counts(self) -> dict[str, int]:
        """The number of images in each split."""
        found = Counter(image.split for image in self.images)
        return {split: found[split] for split in self.splits}

    def read(self) -> Iterator[ExportedImage]:
        """The images, one in memory at a time.

        Raises:
            ArtifactError: a sample is damaged.
            StorageError: a shard can't be read.
        """
        for planned in self.images:
            yield self._read(planned)

    def _read(self, planned: PlannedImage) -> ExportedImage:
        i, samples = planned.sample, self.samples
        stored = samples.read(i)
        facts: dict[str, Any] = parse_json(stored.facts)
        has_own_file = facts.get("original_bytes") and not planned.member
        is_here = bool(planned.source) and is_local(planned.source)
        return ExportedImage(
            number=planned.number,
            image_id=samples.key(i),
            stem=planned.stem,
            split=planned.split,
            height=int(samples.heights[i]),
            width=int(samples.widths[i]),
            jpeg=stored.jpeg,
            source=_source(facts),
            origin=local_path(planned.source) if is_here and has_own_file else "",
            regions=self._regions(i, facts, planned.left_out),
        )

    def _regions(
        self, i: int, facts: Mapping[str, Any], left_out: Collection[int]
    ) -> tuple[ExportedObject, ...]:
        objects, image_id = self.samples.objects, self.samples.key(i)
        known = {int(objects.places[label]): label for label in objects.range_of(i)}
        listed = facts["objects"] if objects.several else [facts]
        regions = []
        for place, each in enumerate(listed):
            mask = {"size": list(each["mask"]["size"]), "counts": each["mask"]["counts"]}
            height, width = mask["size"]
            named = each.get("mask_id") or mask_id(image_id, height, width, mask["counts"])
            if place in left_out or place not in known:
                regions.append(ExportedObject(0, mask, mask_id=named))
                continue
            label, told = int(objects.labels[known[place]]), self.facts.of(known[place])
            regions.append(ExportedObject(label, mask, mask_id=named, **told))
        return tuple(regions)


def _known(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _source(facts: Mapping[str, Any]) -> str:
    """Where an image came from, as its sample tells."""
    parts = [str(facts.get(name, "")) for name in ("root", "uri", "member")]
    return "/".join(part for part in parts if part)
