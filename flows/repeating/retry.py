"""`zutis retry`: ask once more for images that a build could not have, and build with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flows.builds.found import find_build
from flows.commands.build import run as run_build
from flows.commands.options import command_of
from flows.execution.executors import LocalExecutor
from flows.execution.progress import TerminalWatcher
from flows.pipelines.embedding import (
    Standing,
    embed_parts,
    embedding_config,
    parts_of,
    standing_of,
    with_given,
)
from flows.pipelines.recorded import settings_of_record
from flows.repeating.settings import RetryOptions
from flows.settings.build import BuildSettings, clip_model
from flows.settings.devices import require_device
from flows.settings.next_steps import NextSteps
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.errors.sentences import counted_kinds
from storage.files.filesystems import is_local
from storage.files.user_files import user_path
from storage.given_embeddings.source import open_given
from tasks.indexing import scan


@command_of(RetryOptions, positional="build")
def retry_command(options: RetryOptions) -> None:
    """Ask once more for the images that a build could not read for a reason that may have passed,
    and build again with those that came."""
    run(options.build, store=options.store, device=options.device)


def run(build: str, *, store: str, device: str) -> None:
    """Retry, and build again with the same settings if any image came.

    Raises:
        ArtifactError: there is no such build, or its settings are not known.
        ZutisError: one sentence, for the user.
    """
    console = Console()
    place = str(user_path(store).absolute()) if is_local(store) else store
    artifacts = ArtifactStore(place)
    found = find_build(artifacts, build)
    settings, folder = settings_of_record(found.record, store=place, device=device)
    if Path(folder).is_dir():
        os.chdir(folder)  # relative paths were meant from there
    before, after = _ask(settings, _plans(found.record), artifacts, console)
    _tell(before, after, console)
    if after.images > before.images:
        run_build(settings, NextSteps())


def _plans(record: Artifact) -> list[Artifact]:
    """The plans of the build's corpus, not those of sets that it was compared with."""
    refs = (ref.split("/", 1) for ref in record.manifest["inputs"]["others"])
    return [record.store.get(ArtifactRef(*ref)) for ref in refs if ref[0] == scan.NAME]


def _ask(
    settings: BuildSettings, plans: Sequence[Artifact], store: ArtifactStore, console: Console
) -> tuple[Standing, Standing]:
    """Ask again for what a retry may bring; what the parts held before and hold now."""
    clip = clip_model(settings.clip, settings.device, settings.precision)
    parts, sizes = parts_of(plans)
    with TerminalWatcher(console) as watcher:
        executor = LocalExecutor(store, watcher)
        given = open_given(settings.embeddings) if settings.embeddings else None
        config, _ = with_given(embedding_config(settings, clip), given, executor)
        before = standing_of(config, settings.bit_depth, parts, sizes, executor)
        if not before.retryable:
            return before, before
        require_device(settings.device)
        embed_parts(config, settings.bit_depth, parts, sizes, executor)
        return before, standing_of(config, settings.bit_depth, parts, sizes, executor)


def _tell(before: Standing, after: Standing, console: Console) -> None:
    if not before.retryable:
        left = f": {counted_kinds(before.rejects)}" if before.rejects else ""
        text = (
            "Nothing to ask for again: of the images that were left out, none was for a reason "
            f"that may have passed{left}."
        )
    else:
        text = (
            f"Asked again for {before.retryable:,} files: {after.images - before.images:,} images "
            f"came, {after.retryable:,} files are still to be had"
            + (f" ({counted_kinds(after.rejects)})." if after.retryable else ".")
        )
    console.print(text, highlight=False, markup=False, soft_wrap=True)
