"""`zutis report`: a page on a build, as one file."""

from __future__ import annotations

import webbrowser

from rich.console import Console

from flows.commands.options import command_of
from flows.looking.settings import ReportOptions
from flows.terminal.waiting import waiting_for
from storage.artifacts.store import ArtifactStore
from storage.files.filesystems import display


@command_of(ReportOptions, positional="build")
def report_command(options: ReportOptions) -> None:
    """Write a page on a build: its labels by category and quality, and all that was left out."""
    console = Console()
    with waiting_for(console, "Writing the page"):
        from flows.builds.found import find_build
        from flows.reports.report import link_of, place_of, write_report

        build = find_build(ArtifactStore(options.store), options.build)
        place = write_report(build, place_of(options.out) if options.out else "")
    console.print(display(place), highlight=False, soft_wrap=True, markup=False)
    if options.open:
        webbrowser.open(link_of(place))
