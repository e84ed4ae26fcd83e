"""`zutis benchmark list`: the published data sets that models are scored on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from storage.evaluation_sets.opening import BENCHMARKS, DATA_VARIABLE, Benchmark, data_folder

benchmark_app = App(name="benchmark", help="List the evaluation data sets.")


@benchmark_app.command(name="list")
def list_benchmarks(
    *,
    data: Annotated[
        Path | None,
        Parameter(help=f"Folder of all published data sets; empty: {DATA_VARIABLE}."),
    ] = None,
) -> None:
    """Show which data sets are on disk, what is missing, and where to get it."""
    root = data_folder(data) if data or os.environ.get(DATA_VARIABLE) else None
    lacking = {name: _lacks(benchmark, root) for name, benchmark in BENCHMARKS.items()}
    console = Console()
    console.print(_table(root, lacking))
    for name, lacks in lacking.items():
        if lacks:
            _show_lacks(console, BENCHMARKS[name], lacks)
    folder = f"Folder: {root}" if root else f"No folder: give --data DIR or set {DATA_VARIABLE}."
    console.print(folder, soft_wrap=True, highlight=False, markup=False)
    console.print(
        "Own data: coco:FILE.json[@IMAGES] or folder:IMAGES+LABELS[+NAMES].",
        soft_wrap=True, highlight=False, markup=False,
    )  # fmt: skip


def _lacks(benchmark: Benchmark, root: Path | None) -> list[str]:
    """What is missing; without a folder, the layout that one would have."""
    if root is not None:
        return benchmark.missing(root)
    return [str(Path(benchmark.folders[0]) / required.path) for required in benchmark.requires]


def _table(root: Path | None, lacking: dict[str, list[str]]) -> Table:
    table = Table("name", "what")
    table.add_column("images", justify="right")
    table.add_column("on disk")
    for name, lacks in lacking.items():
        benchmark = BENCHMARKS[name]
        table.add_row(
            name, escape(benchmark.what), f"{benchmark.images:,}", _status(benchmark, root, lacks)
        )
    return table


def _status(benchmark: Benchmark, root: Path | None, lacks: list[str]) -> str:
    if root is None:
        return "-"
    if not lacks:
        return "[green]yes[/]"
    absent = benchmark.missing(root, counting=False)
    return "[yellow]in part[/]" if len(absent) < len(benchmark.requires) else "no"


def _show_lacks(console: Console, benchmark: Benchmark, lacks: list[str]) -> None:
    lines = [f"{benchmark.name} needs {', '.join(lacks)}"]
    lines += [f"  from {source}" for source in benchmark.sources]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
