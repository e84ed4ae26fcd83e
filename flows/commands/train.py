"""`zutis train`: run the flow in this process, or find the model cached."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from flows.commands.options import command_of
from flows.execution.executors import LOOKING, CachedExecutor, LocalExecutor, NotCached
from flows.execution.progress import TerminalWatcher
from flows.pipelines.rounds import train_rounds
from flows.pipelines.training import find_dataset, train_model
from flows.prefect_server.settings import STARTING_PREFECT, server_is_configured
from flows.prefect_server.start import begin_prefect
from flows.settings.devices import require_device
from flows.settings.options import part_of
from flows.settings.training import (
    TrainingSettings,
    TrainOptions,
    recipe_facts,
    training_config,
    training_title,
)
from flows.summaries.training import training_facts
from flows.terminal.waiting import waiting_for
from storage.artifacts.leases import using
from storage.artifacts.store import Artifact, ArtifactStore
from storage.errors.exceptions import ConfigError


@command_of(TrainOptions)
def train_command(options: TrainOptions) -> None:
    """Train ZUTIS on the shards of a build; a run that was stopped continues.

    Under torchrun, its processes train one network together.
    """
    run(part_of(TrainingSettings, options), options.dataset, options.store)


def run(settings: TrainingSettings, dataset: str, store: str) -> None:
    """Train, and print the summary.

    Raises:
        ZutisError: one sentence, for the user.
    """
    started = time.monotonic()
    console = Console()
    if settings.recipe and os.environ.get("RANK", "0") == "0":
        console.print(f"Recipe {recipe_facts(settings)}", highlight=False, markup=False)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        trained = _train_together(settings, dataset, store, console)
    else:
        trained = obtain_training(settings, dataset, store, console)
    if int(os.environ.get("RANK", "0")) == 0:
        print_training(trained, console)
        console.print(f"Finished in {time.monotonic() - started:.1f} s.", highlight=False)


def obtain_training(
    settings: TrainingSettings, dataset: str, store: str, console: Console
) -> Artifact:
    """Find the model, or run the flow, with its progress on the console.

    Raises:
        ZutisError: one sentence, for the user.
    """
    with waiting_for(console, LOOKING):
        found = _find(settings, dataset, store)
    return found or _run_flow(settings, dataset, store, console)


def print_training(trained: Artifact, console: Console) -> None:
    """Print the summary of a training."""
    for label, value in training_facts(trained).items():
        console.print(f"[bold]{label:>15}[/]  {escape(value)}", highlight=False, soft_wrap=True)
    if trained.notes["untrained"]:
        console.print(
            "[bold yellow]Made with untrained weights: a trial of the machinery. The predictions "
            "mean nothing.[/]",
            highlight=False,
        )


def _find(settings: TrainingSettings, dataset: str, store: str) -> Artifact | None:
    """The published model, found without Prefect; None if anything has to be computed.

    Mistakes in the settings are reported here, before a server is started, and a missing data set
    before missing weights.
    """
    artifacts = ArtifactStore(store)
    chosen, config = find_dataset(artifacts, dataset), training_config(settings)
    try:
        executor = CachedExecutor(artifacts)
        trained = train_rounds(config, settings.rounds, chosen, executor)[-1].training
    except NotCached:
        return None
    return None if server_is_configured() else trained


def _run_flow(settings: TrainingSettings, dataset: str, store: str, console: Console) -> Artifact:
    require_device(settings.device)
    with TerminalWatcher(console, awaiting=STARTING_PREFECT) as watcher:
        begin_prefect()
        from flows.execution.caller import calling
        from flows.train_zutis import FLOW, train_zutis

        with telling_iterations(console), calling(watcher) as caller:
            train_zutis(dataset=dataset, training=settings, store=store)
    trained = caller.results[FLOW]
    assert isinstance(trained, Artifact), "a flow that returns has trained"
    return trained


def _train_together(
    settings: TrainingSettings, dataset: str, store: str, console: Console
) -> Artifact:
    """Train as one of torchrun's processes; without Prefect, which would run in each of them."""
    if settings.rounds > 1:
        raise ConfigError(
            f"rounds is {settings.rounds}, and several processes train together: train without "
            "torchrun, or one round."
        )
    artifacts = ArtifactStore(store)
    require_device(settings.device)
    chosen, config = find_dataset(artifacts, dataset), training_config(settings)
    if os.environ["RANK"] != "0":
        return train_model(config, chosen, LocalExecutor(artifacts))
    announced = using(artifacts, "train-zutis", training_title(settings, dataset))
    with announced, telling_iterations(console), TerminalWatcher(console) as watcher:
        return train_model(config, chosen, LocalExecutor(artifacts, watcher))


@contextmanager
def telling_iterations(console: Console) -> Iterator[None]:
    """Print a line for each row of the training's table where the output can't show a bar."""
    if console.is_terminal:
        yield
        return
    logger = logging.getLogger("tasks")
    level, propagate = logger.level, logger.propagate
    handler = logging.StreamHandler(console.file)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
