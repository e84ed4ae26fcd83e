"""The quality of a data set's labels, and the weights of losses that follow from it.

A build with `--quality` writes into each sample's JSON how good it takes the label of each of its
categories to be. An object's weight is its label's quality divided by the mean over the objects
that training draws. The mean weight is then 1, as without weights, so that learning rates keep
their meaning. It is the mean over all batches, and not over each of them: a batch of poor labels
weighs less than one of good ones, and neither micro-batches nor the number of processes change a
weight.

Dimensions:
    n     labelled objects of the data set, `ShardSamples.objects`; of most, one of each sample
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors.exceptions import ArtifactError, ConfigError
from storage.shards.samples import ShardSamples

_QUALITY = "quality"


@dataclass(frozen=True, eq=False)
class LabelQuality:
    """What is known of the labels of a data set.

    Attributes:
        values: float64 [n], 0..1; NaN for a label without quality. At least one has one.
    """

    values: npt.NDArray[np.float64]

    @property
    def facts(self) -> dict[str, Any]:
        """For a manifest: the mean quality, 0..1, and the numbers of labels and of those
        without."""
        return {
            "mean": round(float(np.nanmean(self.values)), 4),
            "labels": len(self.values),
            "without_quality": int(np.isnan(self.values).sum()),
        }

    def sentence(self, *, weighted: bool) -> str:
        """The facts in words, for a log."""
        return f"Labels: {quality_words(self.facts, weighted=weighted)}"

    def weights(
        self, shards: ShardSamples, same_category_probability: float
    ) -> npt.NDArray[np.float32]:
        """Weights of the objects' losses, float32 [n].

        Args:
            shards: the data set.
            same_category_probability: of `SampleRecipe`: the share of the training samples whose
                objects are drawn from one category; others are drawn from all.

        Returns:
            Quality divided by its mean over draws; 1 for a label without quality.

        Raises:
            ConfigError: the quality of all labels is 0.
        """
        known = ~np.isnan(self.values)
        drawn = _draw_probabilities(shards, same_category_probability)[known]
        mean = float(self.values[known] @ drawn) / float(drawn.sum())
        if mean <= 0:
            raise ConfigError(
                f"weight_by is quality, and that of all labels of {shards.name} is 0: set "
                "weight_by to none."
            )
        return np.where(known, self.values / mean, 1.0).astype(np.float32)


def read_quality(shards: ShardSamples) -> LabelQuality | None:
    """The quality of every object's label; None where no label has one.

    Of a data set whose first sample does not say what quality its label has, no more is read:
    builds give all labels the entry, or none.

    Raises:
        ArtifactError: a sample is damaged.
        StorageError: a shard can't be read.
    """
    if not _is_judged(shards.facts(0)):
        return None
    values = np.array([each for i in range(len(shards)) for each in _qualities(shards, i)])
    return None if np.isnan(values).all() else LabelQuality(values)


def quality_words(facts: Mapping[str, Any], *, weighted: bool) -> str:
    """`LabelQuality.facts` in words."""
    missing = facts["without_quality"]
    words = f"mean quality {facts['mean']:.2f}"
    words += f", {missing:,} of {facts['labels']:,} have none" if missing else ""
    return words + (", losses weighted by quality" if weighted else "")


def _entry(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The category of a sample's label map, with all that its build says of it."""
    found: Mapping[str, Any] = next(
        each for each in facts["categories"] if each["category_id"] == facts["label"]
    )
    return found


def _is_judged(facts: Mapping[str, Any]) -> bool:
    try:
        return _QUALITY in _entry(facts)
    except (KeyError, TypeError, StopIteration):  # another program's data set
        return False


def _qualities(shards: ShardSamples, i: int) -> list[float]:
    """Of each labelled object of a sample; NaN where there is none."""
    try:
        facts = shards.facts(i)
        entries = [_entry(facts)]
        if shards.objects.several:
            entries = [facts["objects"][place] for place, _ in shards.objects.of_sample(i)]
        values = [entry.get(_QUALITY) for entry in entries]
        found = [np.nan if value is None else float(value) for value in values]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise _strange(shards, i) from error
    if any(quality < 0 or quality > 1 for quality in found):
        raise _strange(shards, i)
    return found


def _strange(shards: ShardSamples, i: int) -> ArtifactError:
    return ArtifactError(
        f"Sample {shards.key(i)} of {shards.name} has no quality from 0 to 1 in its JSON, as its "
        "first sample has: build the data set again with --repair."
    )


def _draw_probabilities(
    shards: ShardSamples, same_category_probability: float
) -> npt.NDArray[np.float64]:
    """How often each object is drawn, as a share of all draws: float64 [n]."""
    groups = list(shards.objects_by_category().values())
    every = len(shards.objects.labels)
    drawn = np.full(every, (1 - same_category_probability) / every)
    for group in groups:
        drawn[group] += same_category_probability / len(groups) / len(group)
    return drawn
