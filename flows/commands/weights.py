"""`zutis weights list | fetch | check`: published weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Column, Table

from flows.commands.weights_facts import facts_of
from storage.errors.exceptions import WeightsError
from storage.weights.download import fetch
from storage.weights.files import weights_folder
from storage.weights.registry import well_known
from storage.weights.resolving import CheckedWeights, cached_weights, check
from storage.weights.shipped import SHIPPED

weights_app = App(name="weights", help="List, fetch and check model weights.")

_OTHERS = (
    "Any other ARCH:TAG of open_clip can be fetched too, except those whose text tower is one of"
    " transformers' (roberta, nllb), and hf-hub:OWNER/NAME, if open_clip's files are there. A CLIP"
    " or SigLIP in a folder is named by the folder's path."
)

_STATUS_STYLES = {"ok": "green", "changed": "bold red", "missing": "yellow", "unrecorded": "cyan"}


@weights_app.command(name="list")
def list_weights() -> None:
    """Show the named weights, and which of them are on this machine."""
    cached = cached_weights()
    names = dict.fromkeys((*SHIPPED, *well_known(), *cached))
    whole = Column("name", no_wrap=True, min_width=max(map(len, names)))  # names are copied
    table = Table(whole, "model", "for", "on this machine")
    for name in names:
        facts = facts_of(name)
        table.add_row(name, facts.model, facts.purposes, _presence(name, cached))
    console = Console()
    console.print(table)
    console.print(f"Folder: {weights_folder()}", soft_wrap=True, highlight=False)
    console.print(_OTHERS, soft_wrap=True, highlight=False)


@weights_app.command(name="fetch")
def fetch_weights(
    name: Annotated[
        str,
        Parameter(help="A name of `zutis weights list`, ARCH:TAG, or hf-hub:OWNER/NAME."),
    ],
    /,
    *,
    source: Annotated[
        str,
        Parameter(
            name="--from",
            help="Folder with the files, or address of a mirror; empty: the publisher's.",
        ),
    ] = "",
) -> None:
    """Download published weights and verify them; with the tokenizer, where a model has one."""
    path = fetch(name, source=source)
    Console().print(f"{name}: {path}", soft_wrap=True, highlight=False, markup=False)


@weights_app.command(name="check")
def check_weights(
    name_or_path: Annotated[
        str | None,
        Parameter(help="A name, a file or a folder; without it, everything that is cached."),
    ] = None,
    /,
    *,
    image: Annotated[Path | None, Parameter(help="Try the model on this image, too.")] = None,
) -> None:
    """Read weights in full and compare them with what was recorded.

    Of one name or file, say which model it is, too, and whether all of its weights load.
    """
    results = check(name_or_path)
    console = Console()
    if not results:
        console.print(f"No weights in {weights_folder()} yet.", soft_wrap=True, highlight=False)
        return
    if name_or_path is None:
        _show_all(console, results)
        _raise_for_bad(results)
    else:
        (result,) = results
        _raise_for_bad(results)
        _show_one(console, result, image)


def _show_all(console: Console, results: list[CheckedWeights]) -> None:
    table = Table("name", "status", Column("sha256", overflow="fold"))
    for result in results:
        style = _STATUS_STYLES[result.status]
        table.add_row(result.name, f"[{style}]{result.status}[/]", result.sha256 or "-")
    console.print(table)


def _show_one(console: Console, result: CheckedWeights, image: Path | None) -> None:
    from tasks.stage.weights_check import describe_weights

    description = describe_weights(result.path, image)
    lines = {
        result.name: description.model,
        "sha256": f"{result.sha256} ({result.status})",
        "loads strictly": f"all of {description.num_tensors} tensors",
    }
    if description.prediction is not None:
        lines[f"on {image}"] = description.prediction
    for name, value in lines.items():
        console.print(f"{name}: {value}", soft_wrap=True, highlight=False, markup=False)


def _raise_for_bad(results: list[CheckedWeights]) -> None:
    bad = [result for result in results if result.status in {"changed", "missing"}]
    if bad:
        listed = ", ".join(f"{result.name} ({result.status}: {result.path})" for result in bad)
        raise WeightsError(
            f"Weights that can't be used: {listed}; delete a changed file and fetch it again with"
            f" `zutis weights fetch {bad[0].name}`."
        )


def _presence(name: str, cached: dict[str, Path | None]) -> str:
    if name in SHIPPED:
        return "part of zutis" if SHIPPED[name].path.is_file() else "missing"
    if name not in cached:
        return "no"
    path = cached[name]
    if path is None:
        return "missing"
    files = list(path.iterdir()) if path.is_dir() else [path]
    return f"{sum(file.stat().st_size for file in files) / 1e6:,.1f} MB"
