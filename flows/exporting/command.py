"""`zutis export`: a build's labels in the format of another tool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from flows.commands.options import command_of
from flows.exporting.settings import ExportOptions
from flows.terminal.waiting import CountedProgress, waiting_for
from storage.artifacts.store import ArtifactStore

if TYPE_CHECKING:
    from flows.exporting.gathered import Gathered
    from tasks.formats.registry import Exported


@command_of(ExportOptions, positional="build")
def export_command(options: ExportOptions) -> None:
    """Write a build's images and labels in the format of another tool."""
    console = Console()
    with waiting_for(console, "Reading the build"):
        from flows.builds.found import find_build
        from flows.exporting.gathered import gather
        from tasks.exporting.folder import check_folder, place_of
        from tasks.formats.registry import check_choices, export

        check_choices(options.format, options.masks, options.images)
        out = place_of(options.out)
        check_folder(out, overwrite=options.overwrite)
        gathered = gather(find_build(ArtifactStore(options.store), options.build), options)
    total = len(gathered.contents.images)
    with waiting_for(console, "Writing images and labels", total=total) as wait:
        exported = export(
            gathered.contents,
            options.format,
            out,
            masks=options.masks,
            images=options.images,
            overwrite=options.overwrite,
            progress=CountedProgress(wait),
        )
    for line in _told(gathered, exported, options):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    console.print(str(out), highlight=False, soft_wrap=True, markup=False)


def _told(gathered: Gathered, exported: Exported, options: ExportOptions) -> list[str]:
    """What was written, and what was not, a sentence a line."""
    splits = ", ".join(f"{name} {count:,}" for name, count in gathered.contents.counts().items())
    told = [f"{exported.images:,} images ({splits}) with {exported.labels:,} labels."]
    if gathered.labels_left_out:
        told.append(
            f"Left out for their quality: {gathered.labels_left_out:,} labels, and "
            f"{gathered.images_left_out:,} images that have no other."
        )
    copied = exported.files.get("copy", 0)
    if options.images != "copy" and copied:
        told.append(
            f"{copied:,} images were copied: their source is no local file with the same pixels."
        )
    told += [f"Not exactly as in the build: {n:,} {what}." for what, n in exported.losses.items()]
    return told
