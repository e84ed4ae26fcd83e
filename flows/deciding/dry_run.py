"""What a build would make of decisions, found by running its last stages beside the store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from flows.builds.found import FoundBuild
from flows.execution.executors import LocalExecutor
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.decisions.decision_file import read_decisions
from storage.decisions.outcomes import outcomes_of
from storage.errors.exceptions import ArtifactError, ConfigError
from storage.images.records import read_parquet
from tasks.deciding import import_decisions
from tasks.packing import plan_shards
from tasks.quality import choose_labels
from tasks.stage.contract import plan_parts
from tasks.stage.layout import DECIDED, SAMPLES, VOCABULARY

_OUT: Final = {"rejected": "out, rejected", "other_category": "out, no category of the build"}
_AS_BUILT: Final = "as it was built"

_Row = dict[str, Any]
_Label = tuple[str, int, str]


@dataclass(frozen=True, kw_only=True)
class LabelChange:
    """A label that would change.

    Attributes:
        image_id: of its image.
        category: that the build gave it.
        kind: `out`, `in`, `renamed`, `redrawn`, `several`, or `restored` for as it was built.
        said: the same in words.
    """

    image_id: str
    category: str
    kind: str
    said: str


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What would change.

    Attributes:
        decisions: in the file; overruled: of these by later ones; elsewhere: about images that the
            build has not retrieved.
        decided: the counts of `import_decisions`; None where no decision is about the build.
        changes: labels that would change, by image.
        samples: before and after.
        shards: how many there would be; made_again: of these.
    """

    decisions: int
    overruled: int
    elsewhere: int
    decided: dict[str, Any] | None
    changes: tuple[LabelChange, ...]
    samples: tuple[int, int]
    shards: int
    made_again: int


class _StoreBeside(ArtifactStore):
    """Finds what another store has, and publishes in a folder of its own."""

    def __init__(self, folder: str, behind: ArtifactStore) -> None:
        super().__init__(folder)
        self._behind = behind

    def find(self, ref: ArtifactRef) -> Artifact | None:
        return super().find(ref) or self._behind.find(ref)


@contextmanager
def _beside(store: ArtifactStore) -> Iterator[ArtifactStore]:
    with tempfile.TemporaryDirectory(prefix="zutis-dry-run-") as folder:
        yield _StoreBeside(folder, store)


def dry_run(build: FoundBuild, place: Path) -> DryRun:
    """What the build would be with the decisions of a file, in place of those that it has followed.
    Nothing is written to its store.

    Raises:
        ConfigError: another version of this program made the build.
        CorpusError: a line of the file is no decision; or no label would be left.
        ArtifactError: an artifact is missing or damaged.
        StorageError: the file or the store can't be read.
    """
    outcomes = outcomes_of(read_decisions(str(place)))
    config, inputs = _as_planned(build)
    here = import_decisions.relevant(outcomes, build.retrieval.ref, build.store)
    with _beside(build.store) as store:
        executor = LocalExecutor(store)
        decided = None
        if here.decisions:
            names = tuple(category.name for category in inputs.categories)
            decided = executor.one(
                import_decisions.NAME,
                import_decisions.Config(decisions=str(place), digest=here.digest),
                import_decisions.Inputs(inputs.retrieval, inputs.masks, names, inputs.named),
            )
        ruled = decided.ref if decided else None
        chosen = _chosen(build, inputs, ruled, executor)
        after = executor.one(
            plan_shards.NAME, config, replace(inputs, chosen=chosen, decided=ruled)
        )
        before = build.one(import_decisions.NAME) if inputs.decided else None
        return DryRun(
            decisions=outcomes.decisions,
            overruled=outcomes.overruled,
            elsewhere=outcomes.decisions - outcomes.overruled - here.decisions,
            decided=decided.counts if decided else None,
            changes=tuple(_changes((build.plan, before), (after, decided), inputs)),
            samples=(build.plan.counts["samples"], after.counts["samples"]),
            shards=len(plan_parts(after)),
            made_again=len(_digests(after) - _digests(build.plan)),
        )


def _as_planned(build: FoundBuild) -> tuple[plan_shards.Config, plan_shards.Inputs]:
    """What the build's plan was made with, as its manifest has it."""
    manifest = build.plan.manifest
    settings, used = manifest["config"], manifest["inputs"]
    config = plan_shards.Config(
        shard_bytes=settings["shard_bytes"], roots=tuple(settings.get("roots", ()))
    )
    inputs = plan_shards.Inputs(
        ArtifactRef("retrieve", used["retrieval"]),
        tuple(ArtifactRef("make_masks", key) for key in used["masks"]),
        tuple(_category(row) for row in build.plan.read_json(VOCABULARY)),
        _ref(used, "chosen", choose_labels.NAME),
        _ref(used, "named", "name_objects"),
        _ref(used, "decided", import_decisions.NAME),
    )
    if plan_shards.locate(config, inputs, build.store) != build.plan.ref:
        raise ConfigError(
            f"The build {build.dataset.key} was made by another version of zutis: run the same "
            "build again, and name what it makes."
        )
    return config, inputs


def _category(row: _Row) -> plan_shards.Category:
    return plan_shards.Category(
        row["category_id"],
        row["name"],
        row["external_id"],
        tuple(row.get("synonyms", ())),
        tuple(row.get("prompts", ())),
    )


def _ref(used: _Row, name: str, stage: str) -> ArtifactRef | None:
    return ArtifactRef(stage, used[name]) if name in used else None


def _chosen(
    build: FoundBuild,
    inputs: plan_shards.Inputs,
    decided: ArtifactRef | None,
    executor: LocalExecutor,
) -> ArtifactRef | None:
    """The choice among the build's labels with these decisions; None where there is none to make,
    as without decisions and other rules."""
    config = choose_labels.Config()
    choice = choose_labels.Inputs(inputs.named or inputs.retrieval, inputs.masks)
    if inputs.chosen:
        manifest = build.store.get(inputs.chosen).manifest
        config, used = choose_labels.Config(**manifest["config"]), manifest["inputs"]
        if "labels" in used:
            choice = choose_labels.Inputs(ArtifactRef("score_labels", used["labels"]))
        choice = replace(
            choice,
            duplicates=_duplicates(build, used),
            leaks=_ref(used, "leaks", "find_leaks"),
        )
    has_rules = choice.labels.stage == "score_labels" or choice.duplicates or choice.leaks
    if not (decided or has_rules):
        return None
    return executor.one(choose_labels.NAME, config, replace(choice, decided=decided)).ref


def _duplicates(build: FoundBuild, used: _Row) -> ArtifactRef | None:
    if "duplicates" not in used:
        return None
    for stage in ("find_duplicates", "import_duplicates"):
        ref = ArtifactRef(stage, used["duplicates"])
        if build.store.find(ref):
            return ref
    raise ArtifactError(
        f"The near-duplicates {used['duplicates']} of the build are not in {build.store.root}: run "
        "the same build again."
    )


def _digests(plan: Artifact) -> set[str]:
    return {part["digest"] for part in plan_parts(plan)}


_Side = tuple[Artifact, Artifact | None]
"""A plan, and the decisions that it has followed."""


def _changes(before: _Side, after: _Side, inputs: plan_shards.Inputs) -> Iterator[LabelChange]:
    """Labels that decisions change, of those that one of the plans has: others are left out by
    other rules, whatever is decided."""
    names = {category.category_id: category.name for category in inputs.categories}
    old, new = _decided(before[1]), _decided(after[1])
    there, then = _labels(before[0]), _labels(after[0])
    for label in sorted(old.keys() | new.keys()):
        was, will = old.get(label, {}), new.get(label, {})
        had, has = _is_in(label, was, there), _is_in(label, will, then)
        what = _what(was, will, names, had=had, has=has)
        if what:
            category = (will or was)["category"]
            yield LabelChange(image_id=label[0], category=category, kind=what[0], said=what[1])


def _what(
    was: _Row, will: _Row, names: dict[int, str], *, had: bool, has: bool
) -> tuple[str, str] | None:
    if had and not has:
        return "out", _OUT.get(will.get("reason", ""), "out")
    if not has or (had and _effect(was) == _effect(will)):
        return None
    if not had:
        return "in", "in again"
    if number := will.get("to_category_id"):
        return "renamed", f"now {names[number]}"
    if will.get("to_mask_id"):
        return "redrawn", "corrected mask"
    return ("several", "several objects") if will.get("several") else ("restored", _AS_BUILT)


def _effect(row: _Row) -> tuple[Any, ...]:
    """What of a decided label changes its sample."""
    return tuple(
        row.get(name) or None for name in ("reason", "to_category_id", "to_mask_id", "several")
    )


def _is_in(label: _Label, row: _Row, plan: set[_Label]) -> bool:
    image_id, category, mask = label
    number = row.get("to_category_id") or category
    masks = (row.get("to_mask_id") or mask, "")
    return not row.get("reason") and any((image_id, number, each) in plan for each in masks)


def _decided(artifact: Artifact | None) -> dict[_Label, _Row]:
    if artifact is None:
        return {}
    with artifact.open(DECIDED) as file:
        rows = read_parquet(file).to_pylist()
    return {(row["image_id"], row["category_id"], row["mask_id"]): row for row in rows}


def _labels(plan: Artifact) -> set[_Label]:
    """The labels of a plan, by image_id, category_id and, with several objects, mask_id."""
    with plan.open(SAMPLES) as file:
        table = read_parquet(file)
    column = "objects" if "objects" in table.column_names else "labels"
    return {
        (image_id, each["category_id"], each.get("mask_id", ""))
        for image_id, of_image in zip(
            table["image_id"].to_pylist(), table[column].to_pylist(), strict=True
        )
        for each in of_image
    }
