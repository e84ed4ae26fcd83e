"""`zutis decisions apply`: what decisions about a build's labels would change."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from cyclopts import App
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.commands.options import command_of
from flows.deciding.settings import ApplyOptions
from flows.terminal.waiting import waiting_for
from storage.artifacts.store import ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.files.filesystems import display
from storage.files.user_files import user_path

if TYPE_CHECKING:
    from flows.deciding.dry_run import DryRun, LabelChange

decisions_app = App(name="decisions", help="Say what decisions about labels would change.")

_SHOWN: Final = 20
_KEY: Final = 12
_KINDS: Final = {
    "out": "out",
    "in": "in again",
    "renamed": "of another category",
    "redrawn": "with a corrected mask",
    "several": "marked as several objects",
    "restored": "as they were built",
}


@decisions_app.command(name="apply")
@command_of(ApplyOptions, positional="build")
def apply_command(options: ApplyOptions) -> None:
    """Say what a build would become with the decisions of a file; a build follows them."""
    if not options.dry_run:
        raise ConfigError(
            "Decisions are followed by the build itself: run the build's command again with "
            f"--decisions {display(str(options.decisions))}; --dry-run says what that would change."
        )
    console = Console(stderr=options.json_)
    with waiting_for(console, "Following the decisions"):
        from flows.builds.found import find_build
        from flows.deciding.dry_run import dry_run

        build = find_build(ArtifactStore(options.store), options.build)
        found = dry_run(build, user_path(str(options.decisions)))
    if options.json_:
        print(json.dumps(asdict(found), indent=1, ensure_ascii=False))
    else:
        _print(found, console)


def _print(found: DryRun, console: Console) -> None:
    for label, value in _facts(found).items():
        console.print(f"[bold]{label:>12}[/]  {escape(value)}", highlight=False, soft_wrap=True)
    if found.changes:
        console.print(_table(found.changes[:_SHOWN]))
    if len(found.changes) > _SHOWN:
        console.print(f"… and {len(found.changes) - _SHOWN:,} more: --json has them all.")


def _facts(found: DryRun) -> dict[str, str]:
    from tasks.packing.decision_sentences import decided_sentence, unused_sentences

    said = [f"{found.decisions:,} in the file"]
    if found.overruled:
        said.append(f"{found.overruled:,} overruled by later ones")
    if found.elsewhere:
        said.append(f"{found.elsewhere:,} about images that the build has not retrieved")
    if found.decided:
        said += [decided_sentence(found.decided), *unused_sentences(found.decided)]
    kinds = Counter(change.kind for change in found.changes)
    labels = [f"{kinds[kind]:,} {words}" for kind, words in _KINDS.items() if kinds[kind]]
    before, after = found.samples
    return {
        "decisions": "; ".join(said),
        "labels": ", ".join(labels) or "none would change",
        "samples": f"{after:,}, as now" if before == after else f"{after:,}, now {before:,}",
        "shards": f"{found.made_again:,} of {found.shards:,} would be made again",
    }


def _table(changes: tuple[LabelChange, ...]) -> Table:
    table = Table(title="Labels that would change", title_justify="left")
    for column in ("image", "category", "would be"):
        table.add_column(column)
    for change in changes:
        table.add_row(
            change.image_id[:_KEY], escape(display(change.category)), escape(display(change.said))
        )
    return table
