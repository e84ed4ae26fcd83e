"""Tables of artifacts whose keys stay whole on narrow terminals."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_ANY_WIDTH = 10_000


def add_whole_column(table: Table, header: str) -> None:
    """A column whose cells are never cut or folded."""
    table.add_column(header, no_wrap=True, overflow="ignore")


def print_whole(console: Console, table: Table) -> None:
    """Print a table without cutting its keys, even if it is wider than the terminal."""
    options = console.options.update(width=_ANY_WIDTH)
    console.width = max(console.width, Measurement.get(console, options, table).minimum)
    console.print(table)
