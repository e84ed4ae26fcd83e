"""Images that a server could not send, or that might not be read, asked for once more.

Trouble that may pass is no property of an image. A part of the embeddings that has such images is
kept as it is; the next run asks for these alone, and what it then gets makes another part of all
the images, which takes the place of the first. Where nothing was got there is no other part, and
nothing that was made from the first changes.
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
from tasks.stage.contract import PartOfPlan, Progress, plan_selection, waiting
from tasks.stage.layout import EMBEDDINGS, RECORDS, REJECTS
from tasks.stage.models import load_clip_model

if TYPE_CHECKING:
    from zutis_model.clip.towers import Clip

__all__ = ["NAME", "Config", "Inputs", "latest", "run", "unanswered"]

NAME = "ask_again"
_CONTINUES = "continues"
_WORTH_A_LOOK = TRANSIENT | {UNREADABLE, OUTSIDE_ROOTS}


@dataclass(frozen=True)
class Inputs:
    """A part of a plan, as it was embedded.

    Attributes:
        part: of the scan's plan.
        first: what the first run made of it.
        known: the latest that came of asking again, or `first`.
    """

    part: PartOfPlan
    first: ArtifactRef
    known: ArtifactRef


def latest(config: Config, first: Artifact, store: ArtifactStore) -> Artifact:
    """What is known of an embedded part: what came of asking again, if anything did.

    Raises:
        ArtifactError: that is damaged.
    """
    if not _may_lack(first):
        return first
    later = store.published(STAGE, _recipe(config, first.ref).prefix)
    continued = {part.manifest["inputs"][_CONTINUES] for part in later}
    heads = [part for part in later if part.key not in continued]
    # Two runs that raced may both have continued one: whoever got more is believed.
    best = max(heads, key=lambda part: (part.counts["images"], part.key), default=first)
    if best is not first and (problems := best.problems()):
        raise damaged(best.ref, problems)
    return best


def unanswered(part: PartOfPlan, known: Artifact, store: ArtifactStore) -> int:
    """How many files of the corpus of today an embedded part may get by asking again."""
    return len(_wanted(part, known, store)) if _may_lack(known) else 0


def run(
    config: Config, inputs: Inputs, store: ArtifactStore, progress: Progress
) -> Artifact | None:
    """Ask again, and publish a part with what came; None if nothing did.

    The part is an artifact of `embed_images`, with the files that this has. Its rows lie in the
    order of the plan; those that were known are the ones of before. Its key is made from what the
    servers gave.
    """
    clip = _ClipWhenNeeded(config, progress)
    known, plan = store.get(inputs.known), store.get(inputs.part.plan)
    entries = _wanted(inputs.part, known, store)
    records, rejects = _rows(known, RECORDS), _rows(known, REJECTS)
    kept = [row for row in rejects if not (row["uri"] in entries and _may_pass(row))]
    places = frozenset((row["uri"], row["offset"]) for row in [*records, *kept])
    reading = Reading(clip, config, plan_selection(plan), places)
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


def _may_lack(part: Artifact) -> bool:
    """Whether a part has rejects that are worth a look, as its manifest says."""
    return not _WORTH_A_LOOK.isdisjoint(part.counts["rejects"])


def _may_pass(reject: Mapping[str, Any]) -> bool:
    """Whether a reject may be another one by now.

    Permissions change without a trace in a listing, and who reads that a file may not be read
    mends them. Web servers forbid for good. The roots of a run are part of no key, and a link or a
    server's redirection may have led out of them.
    """
    reason, uri = reject["reject_reason"], reject["uri"]
    if reason in TRANSIENT:
        return True
    if reason == OUTSIDE_ROOTS:
        return not is_outside(uri)
    if reason != UNREADABLE or reject["member"] or is_web(uri):
        return False
    return not is_local(uri) or os.access(local_path(uri), os.R_OK)


def _wanted(part: PartOfPlan, known: Artifact, store: ArtifactStore) -> dict[str, dict[str, Any]]:
    """The entries to ask for, by URI, those of them that are still in the corpus."""
    uris = {row["uri"] for row in _rows(known, REJECTS) if _may_pass(row)}
    if not uris:
        return {}
    entries = entries_of_part(store.get(part.plan), part.part)
    return {e["uri"]: e for e in entries if e["uri"] in uris and e["present"]}


def _rows(part: Artifact, name: str) -> list[dict[str, Any]]:
    with part.open(name) as file:
        rows: list[dict[str, Any]] = read_parquet(file).to_pylist()
    return rows


def _facts(got: EmbeddedPart) -> list[list[Any]]:
    """What the servers gave, as it goes into a key."""
    columns = ("uri", "offset", "image_id", "reject_reason")
    rows: Iterable[dict[str, Any]] = [*got.records, *got.rejects]
    return [[row[column] for column in columns] for row in rows]


class _ClipWhenNeeded:
    """The network, loaded when the first image is there: often none is."""

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
