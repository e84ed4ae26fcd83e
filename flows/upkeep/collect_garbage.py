"""Garbage collection: what crashes left behind, and artifacts that nothing refers to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from flows.execution.stages import STAGES
from flows.settings.build import KEEP_BUILDS
from storage.artifacts.inventory import Holding, Stored, read_manifests, take_inventory, total_size
from storage.artifacts.pins import pinned
from storage.artifacts.references import inputs_of, reachable
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ArtifactError
from tasks.evaluation import evaluate
from tasks.indexing import build_index, scan
from tasks.packing import record_build
from tasks.training import state, train

# What may go, and in which order: whatever refers goes before what it refers to, so that a
# collector that dies leaves nobody with half of what it needs. Trainings and evaluations are what
# all else was made for, and what another version of this program wrote is not ours to judge.
_COLLECTED = tuple(name for name in reversed(STAGES) if name not in (train.NAME, evaluate.NAME))
# What these name is part of them. All else can be read without what it was made from: a data set
# holds its shards, and so keeps no masks.
_WHOLE_ONLY_WITH_INPUTS = {record_build.NAME, build_index.NAME, train.NAME, evaluate.NAME}


@dataclass(frozen=True)
class Garbage:
    """Something to remove: an attempt if one is named, else a whole artifact."""

    ref: ArtifactRef
    attempt: str = ""
    stored: tuple[Stored, ...] = field(default=(), compare=False)

    @property
    def kind(self) -> str:
        return "unfinished" if self.attempt else "unreferenced"

    def describe(self) -> str:
        return f"{self.kind} {self.ref}" + (f"/{self.attempt}" if self.attempt else "")

    def remove(self, store: ArtifactStore) -> None:
        """Remove it, unless it has been published in the meantime.

        Raises:
            StorageError: the store refuses.
        """
        if not self.attempt:
            store.delete(self.ref)
        elif not _is_published(store, self.ref, self.attempt):
            store.sweep(self.ref, self.attempt)


def find_garbage(
    store: ArtifactStore,
    *,
    before: float,
    unreferenced: bool,
    keep_builds: int = KEEP_BUILDS,
    holdings: Sequence[Holding] | None = None,
) -> Iterator[Garbage]:
    """Look through the store; in the order in which it is to be removed.

    Args:
        store: the store.
        before: seconds since the epoch; whatever is younger is left, since somebody may want to go
            on with it.
        unreferenced: also artifacts that no training, evaluation or pin and none of the latest
            builds refers to. While a build runs, nobody can tell what it will refer to.
        keep_builds: how many of the latest builds of every vocabulary stay.
        holdings: what is in the store, if that is known already.

    Raises:
        ArtifactError: a record of what is used can't be read, so that nobody can tell.
        StorageError: the store can't be read.
    """
    holdings = take_inventory(store) if holdings is None else holdings
    for holding in holdings:
        yield from _unfinished(store, holding, before)
    if not unreferenced:
        return
    used = _used(store, holdings, before, keep_builds)
    for holding in _in_order(holdings):
        if holding.ref not in used:
            yield Garbage(holding.ref, stored=tuple(holding.stored))


def freed_bytes(holdings: Iterable[Holding], garbage: Iterable[Garbage]) -> int:
    """Bytes that removing the garbage gives back: files that others know by another name stay."""
    going = {id(stored) for item in garbage for stored in item.stored}
    everything = [stored for holding in holdings for stored in holding.stored]
    staying = [stored for stored in everything if id(stored) not in going]
    return total_size(everything) - total_size(staying)


def _used(
    store: ArtifactStore, holdings: Sequence[Holding], before: float, keep_builds: int
) -> set[ArtifactRef]:
    """What must stay, and what it can't be read without."""
    known = [holding.ref for holding in holdings if holding.published is not None]
    made = [ref for stage in (train.NAME, evaluate.NAME) for ref in _published(store, stage)]
    kept = [*made, *_latest_builds(store, keep_builds), *pinned(store)]
    used = reachable(store, known, kept, lambda ref: ref.stage in _WHOLE_ONLY_WITH_INPUTS)
    # A build that was stopped lately may go on, with what it had made and all that this came of.
    young = [h.ref for h in holdings if h.published is not None and h.published >= before]
    used |= reachable(store, known, young)
    return used | _later_plans(store, used)


def _published(store: ArtifactStore, stage: str) -> list[ArtifactRef]:
    """Asked for strictly: a listing that leaves one out would leave out what it refers to."""
    return [ArtifactRef(stage, key) for key in store.keys(stage)]


def _latest_builds(store: ArtifactStore, keep: int) -> list[ArtifactRef]:
    records = read_manifests(store, _published(store, record_build.NAME))
    latest: list[ArtifactRef] = []
    by_vocabulary: Counter[str] = Counter()
    for record in sorted(records, key=lambda r: (r.manifest["created"], r.key), reverse=True):
        vocabulary = str(record.manifest["config"]["vocabulary"])
        by_vocabulary[vocabulary] += 1
        if by_vocabulary[vocabulary] <= keep:
            latest.append(record.ref)
    return latest


def _later_plans(store: ArtifactStore, used: set[ArtifactRef]) -> set[ArtifactRef]:
    """Plans that continue a used one: without them, it would pass for its corpus's latest."""
    plans = read_manifests(store, _published(store, scan.NAME))
    by_key = {plan.key: plan.ref for plan in plans}
    continuing: dict[ArtifactRef, list[ArtifactRef]] = {}
    for plan in plans:
        for previous in inputs_of(plan, by_key):
            continuing.setdefault(previous, []).append(plan.ref)
    later: set[ArtifactRef] = set()
    frontier = [ref for ref in used if ref.stage == scan.NAME]
    while frontier:
        frontier = [ref for before in frontier for ref in continuing.get(before, ())]
        frontier = [ref for ref in frontier if ref not in later]
        later.update(frontier)
    return later


def _in_order(holdings: Iterable[Holding]) -> list[Holding]:
    """Published artifacts of the stages that are collected; the oldest plan of a corpus first."""
    mine = [h for h in holdings if h.published is not None and h.ref.stage in _COLLECTED]
    return sorted(
        mine, key=lambda h: (_COLLECTED.index(h.ref.stage), h.published or 0.0, h.ref.key)
    )


def _unfinished(store: ArtifactStore, holding: Holding, before: float) -> Iterator[Garbage]:
    """Attempts that did not become the artifact, and the state of a training that has ended."""
    old = {name: stored for name, stored in holding.children.items() if stored.newest < before}
    attempts = [name for name in old if not name.startswith(".")]
    if holding.published is not None and state.FOLDER in old:
        attempts.append(state.FOLDER)
    if not attempts:
        return
    if holding.published is not None and _is_whole(holding):
        return
    try:
        artifact = store.find(holding.ref)
    except ArtifactError:
        return  # damaged: for --repair to see to
    kept = artifact.manifest["attempt"] if artifact else None
    for name in attempts:
        if name != kept and (name != state.FOLDER or artifact is not None):
            yield Garbage(holding.ref, name, (old[name],))


def _is_whole(holding: Holding) -> bool:
    """Whether there is one attempt, with files: the artifact's own. Its manifest need not be read,
    which makes up most of the time on a store of many artifacts."""
    [name, *others] = holding.children
    is_folder = not name.startswith(".") and not name.endswith(".json")
    return not others and is_folder and bool(holding.children[name].sizes)


def _is_published(store: ArtifactStore, ref: ArtifactRef, attempt: str) -> bool:
    try:
        artifact = store.find(ref)
    except ArtifactError:
        return True
    return artifact is not None and artifact.manifest["attempt"] == attempt
