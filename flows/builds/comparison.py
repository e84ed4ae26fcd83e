"""What differs between two builds: settings, categories, images and labels.

Labels of an image that both builds have are matched: the only label of each by itself, several by
their masks' IoU, the best match first. What is left over came or went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from pycocotools import mask as coco_mask

from flows.builds.found import FoundBuild
from flows.builds.labels import Labels, load_labels
from flows.builds.settings_used import settings_of
from flows.execution.stages import STAGES

LEAST_MATCH: Final = 0.5
"""IoU from which two of several objects of an image are the same one."""

_WHOLE: Final = "stage"
"""Stands for a setting where only one of the builds has a stage at all."""

_SAME_QUALITY: Final = 0.005


@dataclass(frozen=True)
class SettingChange:
    """A setting of a stage that differs; None where a build leaves it at its default."""

    stage: str
    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class CategoryChange:
    """A category's number of labels; None where a build's vocabulary hasn't got it."""

    name: str
    before: int | None
    after: int | None


@dataclass(frozen=True)
class Label:
    """A label of one build.

    Attributes:
        at: its index among the build's labels.
        name: of its category.
        quality: 0..1; None where it was not estimated.
    """

    at: int
    name: str
    quality: float | None


@dataclass(frozen=True)
class LabelChange:
    """A label that came, went, or is another.

    Attributes:
        image_id: of the image.
        before, after: the label in each build; one may be None, not both.
        iou: of the two masks, 0..1; None where there are not two.
    """

    image_id: str
    before: Label | None
    after: Label | None
    iou: float | None = None

    @property
    def kind(self) -> Literal["came", "gone", "changed"]:
        if self.before is None:
            return "came"
        return "gone" if self.after is None else "changed"

    @property
    def what(self) -> tuple[str, ...]:
        """What is changed of a label that both have: name, mask, quality."""
        if self.before is None or self.after is None:
            return ()
        differs = {
            "name": self.before.name != self.after.name,
            "mask": self.iou is not None and self.iou < 1,
            "quality": _differ(self.before.quality, self.after.quality),
        }
        return tuple(name for name, does in differs.items() if does)

    def as_json(self) -> dict[str, Any]:
        def side(label: Label | None) -> dict[str, Any] | None:
            return None if label is None else {"category": label.name, "quality": label.quality}

        return {
            "image_id": self.image_id,
            "kind": self.kind,
            "what": list(self.what),
            "iou": self.iou,
            "before": side(self.before),
            "after": side(self.after),
        }


@dataclass(frozen=True)
class Comparison:
    """All that differs.

    Attributes:
        before, after: labels of the two builds.
        settings: that differ, in the order of the stages.
        categories: whose labels or presence differ, in the order of the later vocabulary, those
            that went last.
        images_came, images_gone: image_ids, sorted.
        labels: that differ: those that changed most first, then those that came, then those that
            went.
        unchanged: labels that are the same in both.
    """

    builds: tuple[FoundBuild, FoundBuild]
    before: Labels
    after: Labels
    settings: tuple[SettingChange, ...]
    categories: tuple[CategoryChange, ...]
    images_came: tuple[str, ...]
    images_gone: tuple[str, ...]
    labels: tuple[LabelChange, ...]
    unchanged: int

    @cached_property
    def counts(self) -> dict[str, int]:
        """Numbers of labels: came, gone, changed, and those with another name, mask or quality."""
        kinds = Counter(change.kind for change in self.labels)
        whats = Counter(what for change in self.labels for what in change.what)
        return {
            "unchanged": self.unchanged,
            **{kind: kinds[kind] for kind in ("came", "gone", "changed")},
            **{what: whats[what] for what in ("name", "mask", "quality")},
        }

    def as_json(self) -> dict[str, Any]:
        """For other programs: keys, counts, and everything that differs."""
        first, second = self.builds
        return {
            "before": first.dataset.key,
            "after": second.dataset.key,
            "counts": self.counts,
            "settings": [vars(change) for change in self.settings],
            "categories": [vars(change) for change in self.categories],
            "images": {"came": list(self.images_came), "gone": list(self.images_gone)},
            "labels": [change.as_json() for change in self.labels],
        }


def compare(first: FoundBuild, second: FoundBuild) -> Comparison:
    """Compare two builds.

    Raises:
        ArtifactError: a file of one is missing or damaged.
        StorageError: the store can't be read.
    """
    before, after = _Side(first), _Side(second)
    changes, unchanged = _compare_images(before, after)
    came, gone = (
        after.of_image.keys() - before.of_image.keys(),
        (before.of_image.keys() - after.of_image.keys()),
    )
    return Comparison(
        builds=(first, second),
        before=before.labels,
        after=after.labels,
        settings=tuple(_settings(first, second)),
        categories=tuple(_categories(before, after)),
        images_came=tuple(sorted(came)),
        images_gone=tuple(sorted(gone)),
        labels=tuple(sorted(changes, key=_order)),
        unchanged=unchanged,
    )


def _order(change: LabelChange) -> tuple[Any, ...]:
    """The most changed first: other names, then the lowest IoU, then the largest step of quality;
    then what came and what went."""
    kinds = ("changed", "came", "gone")
    step = 0.0
    if change.before and change.after:
        step = abs((change.before.quality or 0.0) - (change.after.quality or 0.0))
    named = "name" in change.what
    iou = 1.0 if change.iou is None else change.iou
    at = (change.before or change.after).at  # type: ignore[union-attr]
    return kinds.index(change.kind), not named, iou, -step, change.image_id, at


class _Side:
    """One of the two builds, its labels by image."""

    def __init__(self, build: FoundBuild) -> None:
        self.build, self.labels = build, load_labels(build)
        self.samples = self.labels.samples
        self.of_image = {self.samples.key(i): i for i in range(len(self.samples))}

    def named(self, sample: int) -> list[Label]:
        return [self._label(at) for at in self.samples.objects.range_of(sample)]

    def _label(self, at: int) -> Label:
        name = self.samples.categories[self.labels.category(at)]
        quality = float(self.labels.quality[at])
        return Label(at, name, round(quality, 4) if np.isfinite(quality) else None)

    def masks(self, sample: int) -> list[dict[str, Any]]:
        """The labels' run lengths, in their order."""
        facts, objects = self.samples.facts(sample), self.samples.objects
        if not objects.several:
            return [facts["mask"]]
        return [facts["objects"][objects.places[at]]["mask"] for at in objects.range_of(sample)]

    def stored(self, sample: int) -> tuple[str, Any]:
        """What tells the bytes of a sample: the sha256 of its shard and its place there."""
        name = self.samples.shard(sample).rsplit("/", 1)[-1]
        return self.build.dataset.files[name]["sha256"], self.samples.place(sample)


def _compare_images(before: _Side, after: _Side) -> tuple[list[LabelChange], int]:
    changes: list[LabelChange] = []
    unchanged = 0
    for image_id, sample in before.of_image.items():
        other = after.of_image.get(image_id)
        if other is None:
            changes += (LabelChange(image_id, label, None) for label in before.named(sample))
            continue
        for change in _of_image(image_id, before, sample, after, other):
            if change.kind == "changed" and not change.what:
                unchanged += 1
            else:
                changes.append(change)
    for image_id in after.of_image.keys() - before.of_image.keys():
        sample = after.of_image[image_id]
        changes += (LabelChange(image_id, None, label) for label in after.named(sample))
    return changes, unchanged


def _of_image(
    image_id: str, before: _Side, sample: int, after: _Side, other: int
) -> Iterator[LabelChange]:
    """The labels of an image that both have, changed or not."""
    first, second = before.named(sample), after.named(other)
    if before.stored(sample) == after.stored(other) and len(first) == len(second):
        for old, new in zip(first, second, strict=True):
            yield LabelChange(image_id, old, new, 1.0)
        return
    ious = _ious(before.masks(sample), after.masks(other))
    pairs = [(0, 0)] if len(first) == len(second) == 1 else _matches(ious)
    for at, to in pairs:
        yield LabelChange(image_id, first[at], second[to], round(float(ious[at, to]), 4))
    taken, given = {at for at, _ in pairs}, {to for _, to in pairs}
    yield from (LabelChange(image_id, e, None) for at, e in enumerate(first) if at not in taken)
    yield from (LabelChange(image_id, None, e) for to, e in enumerate(second) if to not in given)


def _ious(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> Any:
    """float64 [a, b], of masks as run lengths; 0 where their sizes differ."""
    if not first or not second or first[0]["size"] != second[0]["size"]:
        return np.zeros((len(first), len(second)))
    one, other = ([_encoded(each) for each in masks] for masks in (first, second))
    return np.asarray(coco_mask.iou(one, other, [0] * len(other)))


def _encoded(mask: Mapping[str, Any]) -> dict[str, Any]:
    counts = mask["counts"]
    return {"size": mask["size"], "counts": counts.encode() if isinstance(counts, str) else counts}


def _matches(ious: Any) -> list[tuple[int, int]]:
    """Pairs of the same object, the best first, each object once."""
    pairs: list[tuple[int, int]] = []
    for flat in np.argsort(-ious, axis=None, kind="stable"):
        at, to = map(int, np.unravel_index(flat, ious.shape))
        if ious[at, to] < LEAST_MATCH:
            break
        if all(at != a and to != b for a, b in pairs):
            pairs.append((at, to))
    return pairs


def _differ(before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return before is not after
    return abs(before - after) >= _SAME_QUALITY


def _settings(first: FoundBuild, second: FoundBuild) -> Iterator[SettingChange]:
    for stage in STAGES:
        old, new = (_of_stage(build, stage) for build in (first, second))
        if bool(old) != bool(new):
            yield SettingChange(
                stage, _WHOLE, *("used" if each else "not used" for each in (old, new))
            )
            continue
        for name in dict.fromkeys([*old, *new]):
            if old.get(name) != new.get(name):
                yield SettingChange(stage, name, old.get(name), new.get(name))


def _of_stage(build: FoundBuild, stage: str) -> dict[str, str]:
    """The stage's settings with its version; values of several parts are joined."""
    values: dict[str, list[str]] = {}
    for artifact in build.artifacts.get(stage, []):
        found = settings_of(artifact) | {"version": str(artifact.manifest["version"])}
        for name, value in found.items():
            values.setdefault(name, []).append(value)
    return {name: "; ".join(sorted(set(several))) for name, several in values.items()}


def _categories(before: _Side, after: _Side) -> Iterator[CategoryChange]:
    old, new = _labels_by_name(before), _labels_by_name(after)
    for name in [*new, *(name for name in old if name not in new)]:
        if old.get(name) != new.get(name):
            yield CategoryChange(name, old.get(name), new.get(name))


def _labels_by_name(side: _Side) -> dict[str, int]:
    found = Counter(side.samples.objects.labels.tolist())
    return {name: found[number] for number, name in side.samples.categories.items()}
