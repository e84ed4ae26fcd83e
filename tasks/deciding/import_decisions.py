"""The stage `import_decisions`: what people decided about a build's labels.

Only decisions about images that the build has retrieved reach it, and of their content only what
decides something, so that others change no key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.decisions.decision_file import read_decisions
from storage.decisions.outcomes import Outcome, Outcomes, outcomes_of
from storage.errors.exceptions import CorpusError
from storage.files.filesystems import display
from storage.images.records import read_parquet, write_parquet
from tasks.deciding.build_labels import BuildLabel, labels_of_images
from tasks.deciding.precision import precision_by_category
from tasks.stage.contract import Progress
from tasks.stage.layout import DECIDED, RETRIEVED_IMAGES

NAME = "import_decisions"
VERSION = 1

OTHER_CATEGORY: Final = "other_category"
"""Why a label is left out that was given to a category that the vocabulary lacks."""

SCHEMA: Final = pa.schema(
    [
        ("image_id", pa.string()),
        ("mask_id", pa.string()),
        ("category_id", pa.int32()),
        ("category", pa.string()),
        ("reason", pa.string()),
        ("to_category_id", pa.int32()),
        ("to_mask_id", pa.string()),
        ("counts", pa.string()),
        ("several", pa.bool_()),
        ("accepted", pa.bool_()),
        ("sampled", pa.bool_()),
    ]
)
"""A row for each label that something was decided about. `reason` is why it is left out (`rejected`
or `other_category`), else empty; `to_category_id` the category that it is of, 0 where that is
unchanged; `to_mask_id` and `counts` (COCO run lengths) the mask that replaces its own, empty where
none does."""

REJECTED: Final = "rejected"


@dataclass(frozen=True, kw_only=True)
class Config:
    """The file of the decisions.

    Attributes:
        decisions: its path or URI; not part of the key.
        digest: of what it comes to for the images of the retrieval, see `relevant`.
    """

    decisions: str
    digest: str


@dataclass(frozen=True)
class Inputs:
    """A retrieval and the masks of its images; with several objects an image their names; and the
    vocabulary's names in the order of category_ids from 1."""

    retrieval: ArtifactRef
    masks: tuple[ArtifactRef, ...]
    names: tuple[str, ...]
    named: ArtifactRef | None = None


def _recipe(config: Config, inputs: Inputs) -> Recipe:
    return Recipe(
        stage=NAME,
        version=VERSION,
        config={"decisions": config.digest},
        inputs={
            "retrieval": inputs.retrieval.key,
            "masks": sorted(ref.key for ref in inputs.masks),
            **({"named": inputs.named.key} if inputs.named else {}),
        },
    )


def locate(config: Config, inputs: Inputs, store: ArtifactStore) -> ArtifactRef:
    return ArtifactRef(NAME, _recipe(config, inputs).key(list(inputs.names)))


def run(config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress) -> Artifact:
    """Publish `decided.parquet` (`SCHEMA`), sorted by image_id, category_id and mask_id.

    The counts give the decisions that hold, what became of labels (`accepted`, `rejected`,
    `renamed`, `redrawn`, `several`), those that match no label of the build because it has another
    category or mask there (`stale`), masks of another size than their image (`wrong_size`), and
    categories that the vocabulary lacks (`other_category`). `precision` has, for each category of
    which labels of a random sample were looked at, the share that is right (see `precision_of`).

    Raises:
        CorpusError: the file has changed meanwhile, or can't be read.
        StorageError: it can't be read.
    """
    found = relevant(outcomes_of(read_decisions(config.decisions)), inputs.retrieval, store)
    if found.digest != config.digest:
        raise CorpusError(
            f"{display(config.decisions)} has changed since this run began: run the same command "
            "again."
        )
    labels = list(
        labels_of_images(found.image_ids, inputs.retrieval, inputs.masks, inputs.named, store)
    )
    numbers = {name: number for number, name in enumerate(inputs.names, start=1)}
    decided = list(_decided(labels, found))
    rows = [_row(label, outcome, numbers) for label, outcome in decided]
    progress.advance(found.decisions)
    with store.attempt(locate(config, inputs, store)) as attempt:
        with attempt.create(DECIDED) as file:
            write_parquet(pa.Table.from_pylist(rows, SCHEMA), file)
        return store.publish(
            attempt,
            _recipe(config, inputs),
            counts={
                "decisions": found.decisions,
                "labels": len(rows),
                **_counts(rows),
                "wrong_size": sum(_is_of_wrong_size(*each) for each in decided),
                "stale": _stale(found, labels),
                "precision": precision_by_category(
                    (row["category_id"], _is_right(row)) for row in rows if row["sampled"]
                ),
            },
        )


def relevant(outcomes: Outcomes, retrieval: ArtifactRef, store: ArtifactStore) -> Outcomes:
    """Those about images of a retrieval."""
    with store.get(retrieval).open(RETRIEVED_IMAGES) as file:
        images = read_parquet(file, columns=["image_id"])["image_id"]
    named = pa.array(list(outcomes.image_ids), pa.string())
    known = set(named.filter(pc.is_in(named, value_set=images)).to_pylist())
    return outcomes.of_images(known)


def _decided(labels: list[BuildLabel], found: Outcomes) -> Iterator[tuple[BuildLabel, Outcome]]:
    for label in labels:
        outcome = found.of_label(label.image_id, label.category, label.mask_id)
        if outcome.is_decided:
            yield label, outcome


def _is_of_wrong_size(label: BuildLabel, outcome: Outcome) -> bool:
    drawn = outcome.drawn
    return drawn is not None and (drawn.height, drawn.width) != (label.height, label.width)


def _row(label: BuildLabel, outcome: Outcome, numbers: dict[str, int]) -> dict[str, Any]:
    if _is_of_wrong_size(label, outcome):
        outcome = replace(outcome, drawn=None, mask=label.mask_id)
    number = numbers.get(outcome.category, 0)
    reason = REJECTED if outcome.rejected else "" if number else OTHER_CATEGORY
    renamed = number if number != label.category_id else 0
    return {
        "image_id": label.image_id,
        "mask_id": label.mask_id,
        "category_id": label.category_id,
        "category": label.category,
        "reason": reason,
        "to_category_id": 0 if reason else renamed,
        "to_mask_id": outcome.mask if outcome.drawn and not reason else "",
        "counts": outcome.drawn.counts if outcome.drawn and not reason else "",
        "several": outcome.several,
        "accepted": outcome.accepted,
        "sampled": outcome.sampled,
    }


def _is_right(row: dict[str, Any]) -> bool:
    """Whether the label is right as it was built: its category and its mask."""
    changed = row["reason"] or row["to_category_id"] or row["to_mask_id"]
    return not changed and (row["accepted"] or row["several"])


def _counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    reasons = Counter(row["reason"] for row in rows)
    return {
        "accepted": sum(row["accepted"] for row in rows),
        REJECTED: reasons[REJECTED],
        OTHER_CATEGORY: reasons[OTHER_CATEGORY],
        "renamed": sum(row["to_category_id"] > 0 for row in rows),
        "redrawn": sum(row["to_mask_id"] != "" for row in rows),
        "several": sum(row["several"] for row in rows),
    }


def _stale(found: Outcomes, labels: list[BuildLabel]) -> int:
    """Decisions about images of the build that were reached from none of its labels."""
    used = {
        decision.order
        for label in labels
        for decision in found.path_of(label.image_id, label.category, label.mask_id)
    }
    return sum(1 for decision in found.latest if decision.order not in used)
