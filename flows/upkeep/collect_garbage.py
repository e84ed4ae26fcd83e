"""Garbage collection: left-overs of crashes, and artifacts that nothing refers to."""

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

# The stages that are collected, in order: an artifact is removed before those that it refers to, so
# that a collector that dies leaves no artifact with missing inputs. Trainings and evaluations are
# the final results and stay, and so do stages of other versions of this program.
_COLLECTED = tuple(name for name in reversed(STAGES) if name not in (train.NAME, evaluate.NAME))
# These need their inputs to be read. All others can be read without: a data set holds its shards,
# and so keeps no masks.
_WHOLE_ONLY_WITH_INPUTS = {record_build.NAME, build_index.NAME, train.NAME, evaluate.NAME}


@dataclass(frozen=True)
class Garbage:
    """An attempt to remove, or a whole artifact if no attempt is named."""

    ref: ArtifactRef
    attempt: str = ""
    stored: tuple[Stored, ...] = field(default=(), compare=False)

    @property
    def kind(self) -> str:
        return "unfinished" if self.attempt else "unreferenced"

    def describe(self) -> str:
        return f"{self.kind} {self.ref}" + (f"/{self.attempt}" if self.attempt else "")

    def remove(self, store: ArtifactStore) -> None:
        """Remove the files, unless they have been published in the meantime.

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
    """The garbage in a store, in the order of its removal.

    Args:
        store: the store.
        before: seconds since the epoch; newer artifacts stay, as a later build may continue them.
        unreferenced: also artifacts that no training, evaluation or pin and none of the latest
            builds refers to. Not while a build runs: it may refer to any of them.
        keep_builds: how many of the latest builds of every vocabulary stay.
        holdings: the content of the store, if it is known already.

    Raises:
        ArtifactError: a record of what is used can't be read, so that its references are unknown.
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
    """Bytes that removing the garbage frees; files with further hard links free nothing."""
    going = {id(stored) for item in garbage for stored in item.stored}
    everything = [stored for holding in holdings for stored in holding.stored]
    staying = [stored for stored in everything if id(stored) not in going]
    return total_size(everything) - total_size(staying)


def _used(
    store: ArtifactStore, holdings: Sequence[Holding], before: float, keep_builds: int
) -> set[ArtifactRef]:
    """Artifacts that must stay, and those that they can't be read without."""
    known = [holding.ref for holding in holdings if holding.published is not None]
    made = [ref for stage in (train.NAME, evaluate.NAME) for ref in _published(store, stage)]
    kept = [*made, *_latest_builds(store, keep_builds), *pinned(store)]
    used = reachable(store, known, kept, lambda ref: ref.stage in _WHOLE_ONLY_WITH_INPUTS)
    # A build that was stopped recently may be resumed: it needs its artifacts and their inputs.
    young = [h.ref for h in holdings if h.published is not None and h.published >= before]
    used |= reachable(store, known, young)
    return used | _later_plans(store, used)


def _published(store: ArtifactStore, stage: str) -> list[ArtifactRef]:
    """Published artifacts of a stage, from a strict listing: if it left out an artifact, whatever
    that refers to would be removed."""
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
    """Plans that continue a used plan: without them, that one would be its corpus's latest."""
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
    """Attempts that were never published, and training states of finished trainings."""
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
    """Whether the only attempt is the artifact's own. Then its manifest need not be read, which
    would take most of the time on a store of many artifacts."""
    [name, *others] = holding.children
    is_folder = not name.startswith(".") and not name.endswith(".json")
    return not others and is_folder and bool(holding.children[name].sizes)


def _is_published(store: ArtifactStore, ref: ArtifactRef, attempt: str) -> bool:
    try:
        artifact = store.find(ref)
    except ArtifactError:
        return True
    return artifact is not None and artifact.manifest["attempt"] == attempt
