"""`zutis artifacts list | show | check | pin | unpin | gc`: the artifacts of a store."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter, validators
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.settings.build import KEEP_BUILDS
from flows.settings.shared import DEFAULT_STORE
from flows.terminal.key_tables import add_whole_column, print_whole
from flows.upkeep.find_artifacts import counts_line, find_by_key
from flows.upkeep.repair import find_problems
from storage.artifacts.inventory import take_inventory, total_size
from storage.artifacts.leases import COLLECTING, RUNNING, Lease, collecting, forget, leases
from storage.artifacts.pins import pin, pinned, unpin
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.exceptions import ArtifactError
from storage.errors.numbers import check_named_numbers

if TYPE_CHECKING:
    from flows.upkeep.collect_garbage import Garbage

artifacts_app = App(
    name="artifacts", help="List, show, check, pin and collect artifacts of the store."
)
_Store = Annotated[str, Parameter(help="Folder or URI of the artifact store.")]
_Key = Annotated[str, Parameter(help="A key, or enough of its beginning.")]


@artifacts_app.command(name="list")
def list_command(
    *,
    stage: Annotated[str, Parameter(help="Only this stage.")] = "",
    store: _Store = DEFAULT_STORE,
) -> None:
    """List published artifacts with their sizes and ages."""
    artifacts = ArtifactStore(store)
    kept = set(pinned(artifacts))
    table = Table()
    add_whole_column(table, "stage")
    add_whole_column(table, "key")
    for column in ("MB", "seconds", "created", "counts"):
        table.add_column(column, justify="right" if column in ("MB", "seconds") else "left")
    for name in [stage] if stage else artifacts.stages():
        for artifact in artifacts.published(name):
            manifest = artifact.manifest
            key = f"{artifact.key}{' (pinned)' if artifact.ref in kept else ''}"
            table.add_row(name, key, f"{_bytes(artifact) / 1e6:,.2f}",
                          f"{manifest['seconds']:,.1f}", manifest["created"],
                          escape(counts_line(artifact)))  # fmt: skip
    if table.row_count:
        print_whole(Console(), table)
    else:
        _say(f"No artifact in {artifacts.root}.")


@artifacts_app.command(name="show")
def show_command(
    key: _Key,
    /,
    *,
    store: _Store = DEFAULT_STORE,
) -> None:
    """Print an artifact's manifest: what made it, from what, and its files."""
    artifact = find_by_key(ArtifactStore(store), key)
    console = Console()
    console.print(artifact.location, soft_wrap=True, markup=False, highlight=False)
    console.print_json(json.dumps(artifact.manifest))


@artifacts_app.command(name="check")
def check_command(*, store: _Store = DEFAULT_STORE) -> None:
    """Read every byte of every artifact and name what is damaged."""
    artifacts = ArtifactStore(store)
    refs = [
        ArtifactRef(stage, key) for stage in artifacts.stages() for key in artifacts.keys(stage)
    ]
    damaged = [problem for ref in refs for problem in find_problems(artifacts, ref)]
    if damaged:
        raise ArtifactError(
            f"{len(damaged)} files are damaged: {'; '.join(damaged)}. Run the build again with "
            "--repair."
        )
    Console().print(f"{len(refs)} artifacts, nothing damaged.")


@artifacts_app.command(name="pin")
def pin_command(
    key: _Key,
    /,
    *,
    note: Annotated[str, Parameter(help="Why it is pinned.")] = "",
    store: _Store = DEFAULT_STORE,
) -> None:
    """Keep an artifact, and what it can't be read without, whatever `gc` finds unreferenced."""
    artifacts = ArtifactStore(store)
    ref = find_by_key(artifacts, key).ref
    pin(artifacts, ref, note)
    _say(f"Pinned {ref}.")


@artifacts_app.command(name="unpin")
def unpin_command(
    key: _Key,
    /,
    *,
    store: _Store = DEFAULT_STORE,
) -> None:
    """Let go of a pinned artifact."""
    artifacts = ArtifactStore(store)
    wanted = key.rstrip("/").rsplit("/", maxsplit=1)[-1]
    found = [ref for ref in pinned(artifacts) if ref.key.startswith(wanted)]
    if len(found) != 1:
        names = f": {', '.join(map(str, found[:5]))}" if found else ""
        raise ArtifactError(
            f"{len(found)} pins in {artifacts.root} have a key that begins with {wanted!r}{names}; "
            "`zutis artifacts list` marks what is pinned."
        )
    unpin(artifacts, found[0])
    _say(f"No longer pinned: {found[0]}.")


@artifacts_app.command(name="gc")
def gc_command(
    *,
    delete: Annotated[bool, Parameter(help="Delete; otherwise only say what would go.")] = False,
    unreferenced: Annotated[
        bool, Parameter(help="Also artifacts that nothing refers to any more.")
    ] = True,
    keep_builds: Annotated[
        int,
        Parameter(
            validator=validators.Number(gte=1),
            help="The latest builds of every vocabulary that stay.",
        ),
    ] = KEEP_BUILDS,
    older_than_hours: Annotated[
        float, Parameter(help="Leave younger ones: somebody may want to go on with them.")
    ] = 168.0,
    verbose: Annotated[bool, Parameter(help="Name everything that goes.")] = False,
    store: _Store = DEFAULT_STORE,
) -> None:
    """Remove what crashes left behind, and what no build, model or pin needs any more.

    Trainings and evaluations always stay, each with its data set.
    """
    # Imported here because it imports all stages, which takes longer than the rest of the start.
    from flows.upkeep.collect_garbage import find_garbage, freed_bytes

    check_named_numbers({"older_than_hours": older_than_hours, "keep_builds": keep_builds})
    artifacts = ArtifactStore(store)
    before = time.time() - older_than_hours * 3600
    with collecting(artifacts) if delete else nullcontext(leases(artifacts)) as announced:
        running = [lease for lease in announced if lease.alive]
        holdings = take_inventory(artifacts)
        garbage = list(
            find_garbage(artifacts, before=before, unreferenced=unreferenced and not running,
                         keep_builds=keep_builds, holdings=holdings)
        )  # fmt: skip
        _show_garbage(garbage, freed_bytes(holdings, garbage), verbose, delete)
        for item in garbage if delete else ():
            item.remove(artifacts)
    if delete:
        _forget_dead(artifacts, before)
    if running and unreferenced:
        _say(_running_sentence(running))


def _show_garbage(garbage: Sequence[Garbage], freed: int, verbose: bool, delete: bool) -> None:
    if not garbage:
        _say("Nothing to remove.")
        return
    if verbose:
        for item in garbage:
            _say(f"{'removing' if delete else 'would remove'} {item.describe()}")
    Console().print(_garbage_table(garbage))
    done = "Removing" if delete else "Nothing was removed; add --delete to remove"
    _say(f"{done} all of this: {freed / 1e6:,.2f} MB of disk.")


def _garbage_table(garbage: Sequence[Garbage]) -> Table:
    table = Table()
    for column in ("stage", "what", "count", "MB"):
        table.add_column(column, justify="right" if column in ("count", "MB") else "left")
    groups: dict[tuple[str, str], list[Garbage]] = {}
    for item in garbage:
        groups.setdefault((item.ref.stage, item.kind), []).append(item)
    for (stage, kind), items in sorted(groups.items()):
        size = total_size(stored for item in items for stored in item.stored)
        table.add_row(stage, kind, f"{len(items):,}", f"{size / 1e6:,.2f}")
    return table


def _forget_dead(store: ArtifactStore, before: float) -> None:
    for folder in (RUNNING, COLLECTING):
        for lease in leases(store, folder):
            if not lease.alive and time.time() - lease.age < before:
                forget(store, lease, folder)


def _running_sentence(running: Sequence[Lease]) -> str:
    names = ", ".join(
        f"{lease.what or 'something'} on {lease.host or 'an unknown machine'} "
        f"({lease.age / 60:.0f} min ago)"
        for lease in running[:3]
    )
    return (
        f"{'A run' if len(running) == 1 else f'{len(running)} runs'} may be using artifacts of "
        f"this store, last heard of: {names}. What is unreferenced was left alone; do this again "
        "when that has ended."
    )


def _say(sentence: str) -> None:
    Console().print(sentence, soft_wrap=True, markup=False, highlight=False)


def _bytes(artifact: Artifact) -> int:
    return sum(entry["size"] for entry in artifact.files.values())
