"""`zutis artifacts list | show KEY | check | gc`: what is in the store."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.collect_garbage import Garbage, find_garbage
from flows.find_artifacts import find_by_key
from flows.repair import find_problems
from flows.settings import DEFAULT_STORE
from storage.artifacts import Artifact, ArtifactRef, ArtifactStore
from storage.errors import ArtifactError

artifacts_app = typer.Typer(no_args_is_help=True)
_Store = Annotated[str, typer.Option(help="Folder or URI of the artifacts.")]


@artifacts_app.command("list")
def list_command(
    stage: Annotated[str, typer.Option(help="Only this stage.")] = "",
    store: _Store = DEFAULT_STORE,
) -> None:
    """List published artifacts with their sizes and ages."""
    artifacts = ArtifactStore(store)
    table = Table()
    for column in ("stage", "key", "MB", "seconds", "created", "counts"):
        table.add_column(column, justify="right" if column in ("MB", "seconds") else "left")
    for name in [stage] if stage else artifacts.stages():
        for artifact in artifacts.published(name):
            manifest = artifact.manifest
            table.add_row(name, artifact.key, f"{_bytes(artifact) / 1e6:,.2f}",
                          f"{manifest['seconds']:,.1f}", manifest["created"],
                          escape(_short(artifact.counts)))  # fmt: skip
    Console().print(table if table.row_count else f"No artifact in {artifacts.root}.")


@artifacts_app.command("show")
def show_command(
    key: Annotated[str, typer.Argument(help="A key, or enough of its beginning.")],
    store: _Store = DEFAULT_STORE,
) -> None:
    """Print an artifact's manifest: what made it, from what, and its files."""
    artifact = find_by_key(ArtifactStore(store), key)
    console = Console()
    console.print(artifact.location, soft_wrap=True, markup=False, highlight=False)
    console.print_json(json.dumps(artifact.manifest))


@artifacts_app.command("check")
def check_command(store: _Store = DEFAULT_STORE) -> None:
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


@artifacts_app.command("gc")
def gc_command(
    delete: Annotated[bool, typer.Option(help="Delete; otherwise only say what would go.")] = False,
    unreferenced: Annotated[
        bool, typer.Option(help="Also artifacts that no recorded build refers to.")
    ] = False,
    older_than_hours: Annotated[
        float, typer.Option(help="Leave younger ones: a running build may be using them.")
    ] = 24.0,
    store: _Store = DEFAULT_STORE,
) -> None:
    """Remove what crashed attempts left behind, and what no build needs any more."""
    artifacts = ArtifactStore(store)
    before = time.time() - older_than_hours * 3600
    garbage = list(find_garbage(artifacts, before=before, unreferenced=unreferenced))
    console = Console()
    for item in garbage:
        console.print(_describe(item, delete), soft_wrap=True, markup=False, highlight=False)
        if delete:
            item.remove(artifacts)
    if not garbage:
        console.print("Nothing to remove.")
    elif not delete:
        console.print("Nothing was removed; add --delete to do it.")


def _describe(item: Garbage, delete: bool) -> str:
    return f"{'removing' if delete else 'would remove'} {item.describe()}"


def _bytes(artifact: Artifact) -> int:
    return sum(entry["size"] for entry in artifact.files.values())


def _short(counts: dict[str, object]) -> str:
    plain = {name: value for name, value in counts.items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {value:,}" for name, value in plain.items())
