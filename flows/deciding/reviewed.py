"""The labels under review: which they are, in which order, and which mask each has.

Dimensions:
    m  labels under review
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from flows.builds.found import FoundBuild
from flows.builds.labels import Labels, load_labels
from storage.decisions.decision import DrawnMask
from storage.errors.exceptions import ConfigError
from storage.images.masks import run_lengths

Indices = npt.NDArray[np.int64]
Order = Literal["best", "worst", "random"]

_CHANGING: Final = ("rejected", "other_category", "renamed", "redrawn")


@dataclass(frozen=True, eq=False)
class Reviewed:
    """Labels of a build that people look at.

    Attributes:
        build: of which.
        labels: all of its labels.
        drawn: int64 [m], indices of those under review; of a random sample in the order in which
            they were drawn, else ascending.
        sizes: of a random sample, how many labels were drawn, by category_id; empty elsewhere.
    """

    build: FoundBuild
    labels: Labels
    drawn: Indices
    sizes: dict[int, int]

    @property
    def is_sample(self) -> bool:
        return bool(self.sizes)

    @cached_property
    def categories(self) -> dict[int, int]:
        """How many labels are under review, by category_id, in the order of these."""
        numbers, counts = np.unique(self._category[self.drawn], return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    @cached_property
    def _category(self) -> npt.NDArray[Any]:
        return self.labels.samples.objects.labels

    @cached_property
    def _under_review(self) -> npt.NDArray[np.bool_]:
        found = np.zeros(len(self.labels), dtype=np.bool_)
        found[self.drawn] = True
        return found

    @cached_property
    def _sample_of(self) -> dict[str, int]:
        samples = self.labels.samples
        return {samples.key(at): at for at in range(len(samples))}

    def has(self, label: int) -> bool:
        """Whether there is such a label under review."""
        return 0 <= label < len(self.labels) and bool(self._under_review[label])

    def name_of(self, label: int) -> str:
        """The name of the label's category."""
        return self.labels.samples.categories[self.labels.category(label)]

    def of_image(self, image_id: str) -> list[int]:
        """Indices of the image's labels that are under review."""
        sample = self._sample_of.get(image_id)
        if sample is None:
            return []
        return [at for at in self.labels.samples.objects.range_of(sample) if self.has(at)]

    def ordered(self, category: int, order: Order) -> Indices:
        """Indices of labels: by category, and of each by quality or as they were drawn.

        Args:
            category: category_id; 0: all.
            order: the best first, the worst first, or as a random sample was drawn.
        """
        chosen = self.drawn
        if category:
            chosen = chosen[self._category[chosen] == category]
        if order != "random":
            chosen = self._by_quality(chosen, best_first=order == "best")
        return chosen[np.argsort(self._category[chosen], kind="stable")]

    def _by_quality(self, chosen: Indices, *, best_first: bool) -> Indices:
        """Labels without a quality go by their rank, after those that have one."""
        best = self.labels.best_first(chosen)
        if best_first:
            return best
        judged = np.isfinite(self.labels.quality[best])
        return np.concatenate([best[judged][::-1], best[~judged][::-1]])

    def by_score(self, scores: npt.NDArray[np.float32], category: int, most: int) -> Indices:
        """Indices of the labels whose images have the highest scores, at most so many.

        Args:
            scores: float32, one a sample of the data set; -inf for those that have none.
            category: category_id; 0: all.
        """
        chosen = self.ordered(category, "best")
        of_label = scores[self.labels.samples.objects.samples[chosen]]
        best = np.argsort(-of_label, kind="stable")[:most]
        return chosen[best[np.isfinite(of_label[best])]]

    def mask_of(self, label: int) -> str:
        """The mask_id of the label's mask; raises as `drawn_mask`."""
        return self.drawn_mask(label).named(self.labels.image_id(label))

    def drawn_mask(self, label: int) -> DrawnMask:
        """The label's mask as decisions have masks.

        Raises:
            ArtifactError: the sample is gone or damaged.
            StorageError: its shard can't be read.
        """
        samples, objects = self.labels.samples, self.labels.samples.objects
        sample, place = int(objects.samples[label]), int(objects.places[label])
        facts = samples.facts(sample)
        mask = (facts["objects"][place] if objects.several else facts).get("mask")
        if mask is None:  # of data sets that other programs wrote
            mask = run_lengths(samples.decode_object(sample, samples.read(sample, copy=False)))
        height, width = mask["size"]
        return DrawnMask(height, width, mask["counts"])


def labels_to_review(
    build: FoundBuild, names: Sequence[str] = (), sample: int = 0, seed: int = 0
) -> Reviewed:
    """The labels of a build, or a random sample of each category's.

    The same build and seed give the same sample. A category with fewer labels gives all of them.

    Args:
        build: of which.
        names: of categories; none: all.
        sample: how many labels of each category; 0: all.
        seed: of the random numbers.

    Raises:
        ConfigError: a category is not the build's or has no label; the labels are of a second
            round; or decisions have changed the labels that a sample would be drawn of.
        ArtifactError: a file is missing or damaged.
    """
    _refuse_second_round(build)
    if sample:
        _refuse_what_is_chosen(build)
    labels = load_labels(build)
    by_category = labels.samples.objects_by_category()
    numbers = _numbers(labels, by_category, names) if names else list(by_category)
    if sample:
        drawn = {n: _draw(by_category[n], labels, sample, seed, n) for n in sorted(numbers)}
        sizes = {number: len(chosen) for number, chosen in drawn.items()}
        return Reviewed(build, labels, np.concatenate(list(drawn.values())), sizes)
    chosen = np.sort(np.concatenate([by_category[number] for number in numbers]))
    return Reviewed(build, labels, chosen, {})


def _draw(own: Indices, labels: Labels, count: int, seed: int, category: int) -> Indices:
    """Some of a category's labels in a random order. Neither the labels of other categories nor
    the order of the shards decide which."""
    keys = [(labels.image_id(each), int(labels.samples.objects.places[each])) for each in own]
    in_order = own[sorted(range(len(own)), key=keys.__getitem__)]
    random = np.random.default_rng([seed, category])
    return random.permutation(in_order)[:count]


def _numbers(labels: Labels, by_category: dict[int, Indices], names: Sequence[str]) -> list[int]:
    known = {name: number for number, name in labels.samples.categories.items()}
    numbers = []
    for name in dict.fromkeys(names):
        if name not in known:
            raise ConfigError(f"The build has no category {name!r}: use a name of its vocabulary.")
        if known[name] not in by_category:
            raise ConfigError(f"The build has no label of {name!r}: leave this category out.")
        numbers.append(known[name])
    return numbers


def _refuse_second_round(build: FoundBuild) -> None:
    if "labelled_by" in build.dataset.manifest["inputs"]:
        first = build.record.manifest["inputs"]["dataset"]
        raise ConfigError(
            f"The data set {build.dataset.key} has labels of a second round, and decisions are "
            f"about those of the first one: name that one, {first}."
        )


def _refuse_what_is_chosen(build: FoundBuild) -> None:
    """What is left after people have thrown labels out is no fair sample of what was built."""
    decided = build.plan.counts.get("decided", {})
    changed = sum(int(decided.get(kind, 0)) for kind in _CHANGING)
    if changed:
        raise ConfigError(
            f"Decisions have changed {changed:,} labels of this build, so that a sample of what is "
            "left would look too good: run the same build without --decisions, which takes "
            "seconds, and name that one."
        )
