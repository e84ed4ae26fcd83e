"""The stage `choose_labels`: which labels are trained on, and why the others are not.

Rules in their order; a label is left out by the first that it fails:

1. `below_min_quality`: its quality is below the least.
2. `below_kept_share`: it is not among the best of its category, of those that are left.

A label whose quality could not be computed fails neither; the counts tell how many there are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from storage.artifacts.fingerprints import Recipe, unless_default
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError, CorpusError
from storage.images.records import read_parquet, write_parquet
from tasks.stage.contract import Progress
from tasks.stage.layout import CHOSEN_LABELS, LABELS

NAME = "choose_labels"
VERSION = 1

BELOW_MIN_QUALITY = "below_min_quality"
BELOW_KEPT_SHARE = "below_kept_share"

_COLUMNS = ["image_id", "mask_id", "category_id", "category", "rank", "category_probability",
            "estimated_iou", "quality"]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the choice.

    Attributes:
        min_quality: least quality, 0..1.
        keep: share of each category's labels that is kept, the best, above 0 and at most 1.
    """

    min_quality: float = 0.0
    keep: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_quality <= 1:
            raise ConfigError(f"min_quality is {self.min_quality}: choose 0 to 1.")
        if not 0 < self.keep <= 1:
            raise ConfigError(
                f"keep is {self.keep:.0%}, which leaves no label: choose above 0 to 100 %."
            )


@dataclass(frozen=True)
class Inputs:
    """The labels with their quality."""

    labels: ArtifactRef


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config=unless_default(config, "min_quality", "keep"),
        inputs={"labels": inputs.labels.key},
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key())


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `chosen.parquet`: every label with its quality and its two factors, `kept`, and the
    `reason` why it is left out (empty where it is kept).

    Raises:
        CorpusError: no label is left.
    """
    with store.get(inputs.labels).open(LABELS) as file:
        labels = read_parquet(file, columns=_COLUMNS)
    reasons = _reasons(labels, config)
    kept = reasons == ""
    if not kept.any():
        best = np.nanmax(_quality(labels)) if labels.num_rows else 0.0
        raise CorpusError(
            f"No label of {labels.num_rows:,} has a quality of {config.min_quality:g} or more (the "
            f"best has {best:.2f}): lower --min-quality."
        )
    table = labels.append_column("kept", pa.array(kept)).append_column("reason", pa.array(reasons))
    progress.advance(labels.num_rows)
    names, numbers = np.unique(reasons[~kept], return_counts=True)
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(CHOSEN_LABELS) as file:
            write_parquet(table, file)
        return store.publish(
            attempt,
            _recipe(config, inputs),
            counts={
                "labels": labels.num_rows,
                "kept": int(np.count_nonzero(kept)),
                "without_quality": labels["quality"].null_count,
                "left_out": dict(zip(names.tolist(), numbers.tolist(), strict=True)),
            },
        )


def _quality(labels: pa.Table) -> np.ndarray:
    """float64 [n], NaN where it could not be computed."""
    return np.asarray(labels["quality"].to_numpy(), dtype=np.float64)


def _reasons(labels: pa.Table, config: Config) -> np.ndarray:
    """Why each label is left out; empty where it is kept. Objects [n]."""
    quality = _quality(labels)
    reasons = np.where(quality < config.min_quality, BELOW_MIN_QUALITY, "").astype(object)
    category, rank = labels["category_id"].to_numpy(), labels["rank"].to_numpy()
    for number in np.unique(category):
        judged = np.flatnonzero((category == number) & (reasons == "") & ~np.isnan(quality))
        order = judged[np.lexsort((rank[judged], -quality[judged]))]
        # Not more than is wanted by a rounding error: 0.7 of 10 are 7.
        wanted = math.ceil(round(config.keep * len(order), 9))
        reasons[order[wanted:]] = BELOW_KEPT_SHARE
    return reasons
