"""Retry of images that could not be read because of a transient error.

A transient error is no property of an image. An embedded part with such rejects is kept as it
is; the next run requests only these images, and publishes the successes, together with the images
of the first part, as another part that replaces the first. Without any success there is no other
part, and nothing that was made from the first changes.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore, damaged
from storage.embeddings.parts import open_embeddings
from storage.errors.reject_reasons import OUTSIDE_ROOTS, TRANSIENT, UNREADABLE
from storage.files.file_kinds import is_web
from storage.files.filesystems import is_local, is_outside, local_path
from storage.images.records import read_parquet
from tasks.indexing.embedding_parts import (
    STAGE,
    Config,
    EmbeddedPart,
    Reading,
    entries_of_part,
    part_counts,
    read_and_embed,
    write_part,
)
from tasks.indexing.given_rows import open_given_rows
from tasks.stage.contract import PartOfPlan, Progress, plan_selection, waiting
from tasks.stage.layout import EMBEDDINGS, RECORDS, REJECTS
from tasks.stage.models import load_clip_model

if TYPE_CHECKING:
    from zutis_model.clip.towers import Clip

__all__ = ["NAME", "Config", "Inputs", "count_retryable", "latest", "run"]

NAME = "ask_again"
_CONTINUES = "continues"
_RETRYABLE = TRANSIENT | {UNREADABLE, OUTSIDE_ROOTS}


@dataclass(frozen=True)
class Inputs:
    """A part of a plan and its embedded parts.

    Attributes:
        part: of the scan's plan.
        first: the artifact of the first run.
        known: the artifact of the latest retry, or `first`.
    """

    part: PartOfPlan
    first: ArtifactRef
    known: ArtifactRef


def latest(config: Config, first: Artifact, store: ArtifactStore) -> Artifact:
    """The artifact of the latest retry of an embedded part, or the part itself without one.

    Raises:
        ArtifactError: the artifact is damaged.
    """
    if not _has_retryable(first):
        return first
    later = store.published(STAGE, _recipe(config, first.ref).prefix)
    continued = {part.manifest["inputs"][_CONTINUES] for part in later}
    heads = [part for part in later if part.key not in continued]
    # Two runs that raced may both have continued one part: the one with more images wins.
    best = max(heads, key=lambda part: (part.counts["images"], part.key), default=first)
    if best is not first and (problems := best.problems()):
        raise damaged(best.ref, problems)
    return best


def count_retryable(part: PartOfPlan, known: Artifact, store: ArtifactStore) -> int:
    """How many files, still in the corpus, a retry of an embedded part would request."""
    return len(_entries_to_retry(part, known, store)) if _has_retryable(known) else 0


def run(
    config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress
) -> Artifact | None:
    """Retry, and publish a part that includes the successes; None if there are none.

    The part is an artifact of `embed_images` with the same files. Its rows are in the order of the
    plan; earlier rows are unchanged. Its key depends on the content that the servers delivered.
    """
    clip = _ClipWhenNeeded(config, progress)
    known, plan = store.get(inputs.known), store.get(inputs.part.plan)
    entries = _entries_to_retry(inputs.part, known, store)
    records, rejects = _rows(known, RECORDS), _rows(known, REJECTS)
    kept = [row for row in rejects if not (row["uri"] in entries and _is_retryable(row))]
    places = frozenset((row["uri"], row["offset"]) for row in [*records, *kept])
    given = open_given_rows(config.given, store)
    reading = Reading(clip, config, plan_selection(plan), places, given)
    got = read_and_embed(list(entries.values()), reading, progress)
    if not got.records:
        return None
    recipe = _recipe(config, inputs.first)
    ref = ArtifactRef(STAGE, recipe.key({_CONTINUES: known.key, "got": _facts(got)}))
    if (there := store.find(ref)) is not None:
        return there
    order = {e["uri"]: n for n, e in enumerate(entries_of_part(plan, inputs.part.part))}
    rows = np.concatenate([open_embeddings(known, EMBEDDINGS), got.embeddings()])
    all_records, all_rejects = [*records, *got.records], [*kept, *got.rejects]
    by_place = sorted(range(len(all_records)), key=lambda n: order[all_records[n]["uri"]])
    all_records = [all_records[n] for n in by_place]
    all_rejects.sort(key=lambda row: order[row["uri"]])
    with store.attempt(ref) as attempt:
        write_part(attempt, all_records, all_rejects, rows[by_place])
        return store.publish(
            attempt, recipe,
            inputs={"plan": inputs.part.plan.key, _CONTINUES: known.key},
            counts=part_counts(
                all_records, all_rejects,
                ignored=Counter(known.counts.get("ignored", {})) + got.ignored,
                few_colours=known.counts.get("few_colours", 0) + got.few_colours,
                bit_depths=Counter(known.counts.get("bit_depths", {})) + got.bit_depths,
                warnings=Counter(known.counts.get("warnings", {})) + got.warnings,
            ),
            notes=known.notes,
        )  # fmt: skip


def _recipe(config: Config, first: ArtifactRef) -> Recipe:
    own = config.recipe
    asked = {**own.config, "asked_again": first.key}
    return Recipe(stage=STAGE, version=own.version, config=asked, weights=own.weights)


def _has_retryable(part: Artifact) -> bool:
    """Whether a part has rejects that may be transient, by the reasons in its manifest."""
    return not _RETRYABLE.isdisjoint(part.counts["rejects"])


def _is_retryable(reject: Mapping[str, Any]) -> bool:
    """Whether a retry of a reject may succeed.

    Changed permissions leave no trace in a listing, and users correct them after an error. Refusals
    of web servers are final. The roots of a run are part of no key, and a link or a redirect may
    have led outside them.
    """
    reason, uri = reject["reject_reason"], reject["uri"]
    if reason in TRANSIENT:
        return True
    if reason == OUTSIDE_ROOTS:
        return not is_outside(uri)
    if reason != UNREADABLE or reject["member"] or is_web(uri):
        return False
    return not is_local(uri) or os.access(local_path(uri), os.R_OK)


def _entries_to_retry(
    part: PartOfPlan, known: Artifact, store: ArtifactStore
) -> dict[str, dict[str, Any]]:
    """The entries to request, by URI, without those that are no longer in the corpus."""
    uris = {row["uri"] for row in _rows(known, REJECTS) if _is_retryable(row)}
    if not uris:
        return {}
    entries = entries_of_part(store.get(part.plan), part.part)
    return {e["uri"]: e for e in entries if e["uri"] in uris and e["present"]}


def _rows(part: Artifact, name: str) -> list[dict[str, Any]]:
    with part.open(name) as file:
        rows: list[dict[str, Any]] = read_parquet(file).to_pylist()
    return rows


def _facts(got: EmbeddedPart) -> list[list[Any]]:
    """The delivered content, as part of a key."""
    columns = ("uri", "offset", "image_id", "reject_reason")
    rows: Iterable[dict[str, Any]] = [*got.records, *got.rejects]
    return [[row[column] for column in columns] for row in rows]


class _ClipWhenNeeded:
    """The network, loaded when the first image arrives; often none does."""

    def __init__(self, config: Config, progress: Progress) -> None:
        self._config, self._progress = config, progress
        self._lock = threading.Lock()
        self._clip: Clip | None = None

    def __call__(self) -> Clip:
        with self._lock:
            if self._clip is None:
                with waiting(self._progress, "loading CLIP"):
                    self._clip = load_clip_model(self._config.clip)
            return self._clip
