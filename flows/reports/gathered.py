"""All that a page on a build says, gathered from its artifacts.

Only what is shown is read: tables by their columns, samples one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from flows.builds.found import FoundBuild
from flows.builds.labels import Labels, load_labels
from flows.builds.settings_used import StageSettings, settings_used
from flows.pipelines.retrieval import load_evidence
from flows.reports.charts import Curve
from flows.reports.findings import conflicts, duplicates, rejected
from flows.reports.funnel import funnel
from flows.reports.parts import (
    CategoryGallery,
    CategoryRow,
    Gallery,
    Note,
    ScoreTable,
    Step,
    Thumbnail,
)
from flows.reports.results import curves, named_trainings, scores
from flows.reports.thumbnails import Budget, Pictures, Truth
from tasks.categories.evidence_notes import competing_pairs, senses_note, thin_note
from tasks.packing.decision_sentences import (
    decided_sentence,
    precision_words,
    unused_sentences,
)
from tasks.packing.quality_sentences import objects_sentence, quality_sentences
from tasks.retrieval import estimate_evidence

MOST_CATEGORIES: Final = 1_000
"""Categories with a gallery, and in the table, at most."""

_MOST_THUMBNAILS: Final = 1_200
_OF_A_CATEGORY: Final = 12
_EXTREMES: Final = 24
_MOST_NOTES: Final = 200

# Bytes of the page that each part's thumbnails may take, 15 million together.
_EXTREME_BYTES: Final = 700_000
_CONFLICT_BYTES: Final = 1_000_000
_DUPLICATE_BYTES: Final = 1_300_000
_REJECT_BYTES: Final = 2_000_000
_GALLERY_BYTES: Final = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Report:
    """The content of the page. Empty parts get no heading.

    Attributes:
        title: the page's.
        warning: on untrained weights; empty for trained ones.
        facts: (label, value) pairs.
        steps: from the corpus to the shards.
        categories: in numbers, the first ones; more_categories: how many are left off.
        best, worst: labels of highest and of lowest quality, or rank where none was estimated.
        judged: whether the quality of labels was estimated.
        galleries: of each category; without_gallery: how many have labels and no gallery.
        pairs: of categories that want the same images; conflicts: such images.
        thin: categories that few images show, or that show two things.
        duplicates: groups of near-duplicates.
        rejected: by reason.
        curves, tables: of trainings on the build, and their scores.
        settings: of each stage.
        commands: (what it does, command line) pairs.
    """

    title: str
    warning: str
    facts: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    categories: tuple[CategoryRow, ...]
    more_categories: int
    best: tuple[Thumbnail, ...]
    worst: tuple[Thumbnail, ...]
    judged: bool
    galleries: tuple[CategoryGallery, ...]
    without_gallery: int
    pairs: tuple[Note, ...]
    conflicts: Gallery | None
    thin: tuple[Note, ...]
    duplicates: tuple[Gallery, ...]
    rejected: tuple[Gallery, ...]
    curves: tuple[Curve, ...]
    tables: tuple[ScoreTable, ...]
    settings: tuple[StageSettings, ...]
    commands: tuple[tuple[str, str], ...]

    @property
    def with_precision(self) -> bool:
        """Whether people have looked at a random sample of any category's labels."""
        return any(row.precision for row in self.categories)


def gather(build: FoundBuild, truth: Truth | None = None) -> Report:
    """What the page says of a build.

    Args:
        build: found in its store.
        truth: of its labels, where it is known.

    Raises:
        ArtifactError: an artifact is missing or damaged, or there is no sample.
        StorageError: the store can't be read.
    """
    labels = load_labels(build)
    pictures = Pictures(build, labels, truth or {})
    by_category = labels.samples.objects_by_category()
    rows = _category_rows(build, labels, by_category)
    best, worst = _extremes(labels, pictures)
    galleries = _galleries(labels, pictures, by_category)
    pairs, contested = conflicts(build, pictures, Budget(_CONFLICT_BYTES))
    return Report(
        title=build.name,
        warning=_warning(build),
        facts=_facts(build, labels),
        steps=funnel(build),
        categories=rows[:MOST_CATEGORIES],
        more_categories=max(0, len(rows) - MOST_CATEGORIES),
        best=best,
        worst=worst,
        judged=labels.judged,
        galleries=galleries,
        without_gallery=len(by_category) - len(galleries),
        pairs=pairs,
        conflicts=contested,
        thin=_thin(build),
        duplicates=duplicates(build, pictures, Budget(_DUPLICATE_BYTES)),
        rejected=rejected(build, pictures, Budget(_REJECT_BYTES)),
        curves=curves(named_trainings(build)),
        tables=scores(build),
        settings=settings_used(build),
        commands=_commands(build),
    )


def _warning(build: FoundBuild) -> str:
    if not build.dataset.notes.get("untrained"):
        return ""
    return "Made with untrained weights: a trial of the machinery. The labels mean nothing."


def _facts(build: FoundBuild, labels: Labels) -> tuple[tuple[str, str], ...]:
    counts, notes = build.plan.counts, build.record.notes
    size = sum(entry["size"] for name, entry in build.dataset.files.items() if ".tar" in name)
    with_labels = len(np.unique(labels.samples.objects.labels))
    facts = {
        "samples": f"{len(labels.samples):,}, with {len(labels):,} labels",
        "categories": f"{with_labels:,} of {len(counts['categories']):,} have labels",
        "shards": f"{build.dataset.counts['shards']:,}, {size / 1e6:,.1f} MB",
        "weights": str(notes.get("weights", "")),
        "corpus": ", ".join(map(str, notes.get("corpus", ()))),
        "data set": build.dataset.key,
    }
    if "objects" in counts:
        facts["objects"] = objects_sentence(counts["objects"])
    if "judged" in counts:
        facts["quality"] = "; ".join(quality_sentences(counts["judged"]))
    if "decided" in counts:
        decided = counts["decided"]
        facts["decisions"] = "; ".join([decided_sentence(decided), *unused_sentences(decided)])
    return tuple((label, value) for label, value in facts.items() if value)


_ByCategory = dict[int, npt.NDArray[np.int64]]


def _category_rows(
    build: FoundBuild, labels: Labels, by_category: _ByCategory
) -> tuple[CategoryRow, ...]:
    thin = {row["category_id"] for row in _evidence(build) if row["thin"]}
    not_found = set(build.retrieval.notes.get("not_found", ()))
    decided = build.plan.counts.get("decided")
    precision = precision_words(decided) if decided else {}
    rows = []
    for row in build.plan.counts["categories"]:
        own = by_category.get(row["category_id"], np.empty(0, np.int64))
        notes = {
            "no label": not len(own),
            "few images": row["category_id"] in thin,
            "not found": row["name"] in not_found,
        }
        rows.append(
            CategoryRow(
                category_id=row["category_id"],
                name=row["name"],
                retrieved=row["retrieved"],
                kept=row["kept"],
                labels=len(own),
                quality=_mean_quality(labels, own),
                notes=tuple(note for note, holds in notes.items() if holds),
                precision=precision.get(row["category_id"], ""),
            )
        )
    return tuple(rows)


def _mean_quality(labels: Labels, own: npt.NDArray[np.int64]) -> float | None:
    known = labels.quality[own][np.isfinite(labels.quality[own])]
    return float(known.mean()) if len(known) else None


def _extremes(
    labels: Labels, pictures: Pictures
) -> tuple[tuple[Thumbnail, ...], tuple[Thumbnail, ...]]:
    """The best and the worst labels, where their quality is known."""
    if not labels.judged:
        return (), ()
    known = np.flatnonzero(np.isfinite(labels.quality))
    order = labels.best_first(known)
    few = min(_EXTREMES, len(order) // 2)
    ends = order[:few], order[::-1][:few]
    best, worst = (
        pictures.of_labels(
            end.tolist(),
            [f"{_name(labels, each)}, {_caption(labels, each)}" for each in end.tolist()],
            Budget(_EXTREME_BYTES / 2),
            true=True,
        )
        for end in ends
    )
    return best, worst


def _galleries(
    labels: Labels, pictures: Pictures, by_category: _ByCategory
) -> tuple[CategoryGallery, ...]:
    """Of each category some labels, evenly from the best to the worst."""
    shown = sorted(by_category)[:MOST_CATEGORIES]
    each = int(np.clip(_MOST_THUMBNAILS // len(shown), 1, _OF_A_CATEGORY))
    budget = Budget(0)
    galleries = []
    for number in shown:
        # What a category leaves of its share, the next ones may take.
        budget.left += _GALLERY_BYTES / len(shown)
        order = labels.best_first(by_category[number])
        places = np.linspace(0, len(order) - 1, min(each, len(order))).round().astype(int)
        few = order[places].tolist()
        galleries.append(
            CategoryGallery(
                name=labels.samples.categories[number],
                note=_gallery_note(labels, order),
                thumbnails=pictures.of_labels(few, [_caption(labels, one) for one in few], budget),
            )
        )
    return tuple(galleries)


def _gallery_note(labels: Labels, own: npt.NDArray[np.int64]) -> str:
    mean = _mean_quality(labels, own)
    quality = "" if mean is None else f", mean quality {mean:.2f}"
    return f"{len(own):,} {'label' if len(own) == 1 else 'labels'}{quality}"


def _caption(labels: Labels, label: int) -> str:
    if np.isfinite(labels.quality[label]):
        return f"quality {labels.quality[label]:.2f}"
    return f"rank {labels.rank[label]}" if labels.rank[label] else "no rank"


def _name(labels: Labels, label: int) -> str:
    return labels.samples.categories[labels.category(label)]


def _evidence(build: FoundBuild) -> list[dict[str, object]]:
    found = build.one(estimate_evidence.NAME)
    return load_evidence(found) if found else []


def _thin(build: FoundBuild) -> tuple[Note, ...]:
    rows = _evidence(build)
    notes = []
    for row in rows:
        if row["thin"]:
            words = thin_note(row).removeprefix(f"{row['category']}: ")
            notes.append(Note(name=str(row["category"]), words=words))
        if said := senses_note(row):
            words = said.removeprefix(f"{row['category']} ")
            notes.append(Note(name=str(row["category"]), words=f"two senses? {words}"))
    notes += [Note(name=pair, words="want the same images") for pair in competing_pairs(rows)]
    return tuple(notes[:_MOST_NOTES])


def _commands(build: FoundBuild) -> tuple[tuple[str, str], ...]:
    key = build.dataset.key[:12]
    return (
        ("This page anew, with trainings and scores that were added", f"zutis report {key}"),
        ("What has changed since an earlier build", f"zutis diff EARLIER {key}"),
        ("A training on these labels", f"zutis train --dataset {key}"),
        ("What made the data set", f"zutis artifacts show {key}"),
    )
