"""`zutis diff`: what differs between two builds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.commands.options import command_of
from flows.looking.settings import DiffOptions
from flows.terminal.waiting import waiting_for
from storage.artifacts.store import ArtifactStore
from storage.files.filesystems import display

if TYPE_CHECKING:
    from flows.builds.comparison import Comparison

_SETTINGS: Final = 40
_CATEGORIES: Final = 40
_LABELS: Final = 20
_KEY: Final = 12


@command_of(DiffOptions, positional=("before", "after"))
def diff_command(options: DiffOptions) -> None:
    """Compare two builds: settings, categories, images and labels that came, went, changed."""
    console = Console(stderr=options.json_)
    with waiting_for(console, "Comparing the labels"):
        from flows.builds.comparison import compare
        from flows.builds.found import find_build
        from flows.reports.report import place_of, refuse_other_file, write_page

        page = place_of(options.page) if options.page else ""
        if page:
            refuse_other_file(page)
        store = ArtifactStore(options.store)
        compared = compare(find_build(store, options.before), find_build(store, options.after))
    if page:
        from flows.reports.comparison_page import render_comparison

        with waiting_for(console, "Writing the page"):
            write_page(page, render_comparison(compared))
    if options.json_:
        print(json.dumps(compared.as_json(), indent=1, ensure_ascii=False))
    else:
        _print(compared, console)
    if page:
        console.print(f"Page: {display(page)}", highlight=False, soft_wrap=True, markup=False)


def _print(compared: Comparison, console: Console) -> None:
    from flows.reports.comparison_page import main_facts

    for label, value in main_facts(compared):
        console.print(f"[bold]{label:>21}[/]  {escape(value)}", highlight=False, soft_wrap=True)
    if compared.settings:
        console.print(_settings_table(compared))
    if compared.categories:
        console.print(_category_table(compared))
    if compared.labels:
        console.print(_label_table(compared))
    more = len(compared.labels) - _LABELS
    if more > 0:
        console.print(f"… and {more:,} labels more: --json has them all, --page shows them.")


def _settings_table(compared: Comparison) -> Table:
    table = _table("Settings that differ", "stage", "setting", "before", "after")
    for change in compared.settings[:_SETTINGS]:
        values = ("default" if each is None else each for each in (change.before, change.after))
        table.add_row(change.stage, *map(_text, (change.name, *values)))
    return table


def _category_table(compared: Comparison) -> Table:
    table = _table("Labels of categories", "name", "before", "after")
    for change in compared.categories[:_CATEGORIES]:
        values = ("none" if each is None else f"{each:,}" for each in (change.before, change.after))
        table.add_row(_text(change.name), *values)
    return table


def _label_table(compared: Comparison) -> Table:
    from flows.reports.comparison_page import said_of

    table = _table("Labels that differ most", "image", "", "before", "after", "IoU")
    for change in compared.labels[:_LABELS]:
        table.add_row(
            change.image_id[:_KEY],
            ", ".join(change.what) or change.kind,
            _text(said_of(change.before)),
            _text(said_of(change.after)),
            "" if change.iou is None else f"{change.iou:.2f}",
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def _text(text: str) -> str:
    return escape(display(text))
