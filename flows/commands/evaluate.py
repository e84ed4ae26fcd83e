"""`zutis evaluate`: run the flow in this process, or find the scores cached."""

from __future__ import annotations

import time

from rich.console import Console

from flows.commands.options import command_of
from flows.execution.executors import LOOKING, CachedExecutor, NotCached
from flows.execution.progress import TerminalWatcher
from flows.pipelines.training import Evaluated, evaluate_model, find_model
from flows.prefect_server.settings import STARTING_PREFECT, server_is_configured
from flows.prefect_server.start import begin_prefect
from flows.settings.devices import require_device
from flows.settings.evaluation import EvaluateOptions, EvaluationSettings
from flows.settings.options import part_of
from flows.terminal.waiting import waiting_for
from storage.artifacts.store import ArtifactStore
from tasks.evaluation.score_table import score_notes, score_table


@command_of(EvaluateOptions)
def evaluate_command(options: EvaluateOptions) -> None:
    """Score a trained model on annotated images: mean IoU, AP, and MaskCLIP beside it."""
    run(part_of(EvaluationSettings, options), options.checkpoint, options.store)


def run(settings: EvaluationSettings, checkpoint: str, store: str) -> None:
    """Evaluate, and print the scores.

    Raises:
        ZutisError: one sentence, for the user.
    """
    started = time.monotonic()
    console = Console()
    evaluated = obtain_scores(settings, checkpoint, store, console)
    print_scores(evaluated, console)
    console.print(f"Finished in {time.monotonic() - started:.1f} s.", highlight=False)


def obtain_scores(
    settings: EvaluationSettings, checkpoint: str, store: str, console: Console
) -> Evaluated:
    """Find the scores, or run the flow, with its progress on the console.

    Raises:
        ZutisError: one sentence, for the user.
    """
    with waiting_for(console, LOOKING):
        found = _find(settings, checkpoint, store)
    return found or _run_flow(settings, checkpoint, store, console)


def print_scores(evaluated: Evaluated, console: Console) -> None:
    """Print the scores in per cent, and where everything is."""
    metrics = evaluated.metrics()
    table = score_table(metrics)
    console.print(table, highlight=False, markup=False, soft_wrap=True)
    for note in score_notes(metrics):
        console.print(f"Note: {note}", highlight=False, markup=False, soft_wrap=True)
    for artifact in evaluated.all:
        console.print(f"Folder: {artifact.location}/", highlight=False, soft_wrap=True)


def _find(settings: EvaluationSettings, checkpoint: str, store: str) -> Evaluated | None:
    """The published scores, found without Prefect; None if anything has to be computed."""
    artifacts = ArtifactStore(store)
    model = find_model(artifacts, checkpoint)
    try:
        evaluated = evaluate_model(settings, model, CachedExecutor(artifacts))
    except NotCached:
        return None
    return None if server_is_configured() else evaluated


def _run_flow(
    settings: EvaluationSettings, checkpoint: str, store: str, console: Console
) -> Evaluated:
    require_device(settings.device)
    with TerminalWatcher(console, awaiting=STARTING_PREFECT) as watcher:
        begin_prefect()
        from flows.evaluate_zutis import FLOW, evaluate_zutis
        from flows.execution.caller import calling

        with calling(watcher) as caller:
            evaluate_zutis(evaluation=settings, checkpoint=checkpoint, store=store)
    evaluated = caller.results[FLOW]
    assert isinstance(evaluated, Evaluated), "a flow that returns has evaluated"
    return evaluated
