"""`zutis merge`: the labels of two builds as one data set, under one vocabulary."""

from __future__ import annotations

from rich.console import Console

from flows.commands.options import command_of
from flows.execution.executors import LocalExecutor
from flows.execution.progress import TerminalWatcher
from flows.pipelines.training import find_dataset
from flows.repeating.settings import MergeOptions
from flows.settings.build import check_name, file_name_of
from flows.upkeep.find_artifacts import LATEST
from storage.artifacts.pins import pin
from storage.artifacts.store import Artifact, ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.errors.sentences import counted_kinds
from storage.vocabularies.vocabulary import load_vocabulary
from tasks.merging import merge_datasets


@command_of(MergeOptions, positional=("first", "second"))
def merge_command(options: MergeOptions) -> None:
    """Merge the labels of two builds under one vocabulary, as a data set of its own.

    An image that both have is one sample with the labels of both; of two labels of one object the
    one of better quality is kept.
    """
    check_name(options.name)
    vocabulary = load_vocabulary(options.vocabulary)
    store = ArtifactStore(options.store)
    sources = [_dataset(store, key) for key in (options.first, options.second)]
    if sources[0].key == sources[1].key:
        raise ConfigError(f"Both are the data set {sources[0].key[:12]}: name two.")
    console = Console()
    with TerminalWatcher(console) as watcher:
        made = LocalExecutor(store, watcher).one(
            merge_datasets.NAME,
            merge_datasets.Config(
                name=options.name or file_name_of(vocabulary.name),
                vocabulary=vocabulary.categories,
                shard_bytes=round(options.shard_mb * 1_000_000),
            ),
            merge_datasets.Inputs(tuple(one.ref for one in sources)),
        )
    # No build refers to it, so that garbage collection would take it away.
    pin(store, made.ref, note=f"merged: {vocabulary.name}")
    _tell(made, console)


def _dataset(store: ArtifactStore, key: str) -> Artifact:
    return find_dataset(store, "" if key == LATEST else key)


def _tell(made: Artifact, console: Console) -> None:
    counts = made.counts
    lines = [
        f"{counts['samples']:,} samples with {counts['labels']:,} labels in {counts['shards']} "
        f"shards: {made.location}/",
    ]
    if counts["left_out"]:
        lines.append(f"Labels that were not taken: {counted_kinds(counts['left_out'])}.")
    lines.append(f"Train on it with: zutis train --dataset {made.key[:12]}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
