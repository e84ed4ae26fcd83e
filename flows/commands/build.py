"""`zutis build`: run the flow in this process, or find everything cached."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from flows.commands.options import command_of
from flows.execution.executors import LOOKING, CachedExecutor, NotCached
from flows.execution.progress import StageProgress, TerminalWatcher
from flows.pipelines.build import Build, build
from flows.prefect_server.settings import STARTING_PREFECT, server_is_configured
from flows.prefect_server.start import begin_prefect
from flows.settings.build import BuildSettings
from flows.settings.devices import require_device
from flows.settings.next_steps import BuildOptions, NextSteps
from flows.settings.options import part_of
from flows.summaries.build import print_summary, summarise
from flows.terminal.waiting import waiting_for
from storage.artifacts.store import Artifact, ArtifactStore
from storage.files.filesystems import display

if TYPE_CHECKING:
    from flows.pipelines.training import Evaluated
    from flows.settings.next_steps import NextSteps


@dataclass
class Outcome:
    """The results of a build and of what followed it; `report` is the place of the page on it,
    empty where it could not be written, None where nothing tried to."""

    build: Build
    reports: list[StageProgress] = field(default_factory=list)
    training: Artifact | None = None
    evaluation: Evaluated | None = None
    report: str | None = None


@command_of(BuildOptions)
def build_command(options: BuildOptions) -> None:
    """Build pseudo-label shards: index, retrieve, mask, pack. Nothing is computed twice."""
    run(part_of(BuildSettings, options), part_of(NextSteps, options))


def run(settings: BuildSettings, steps: NextSteps | None = None) -> None:
    """Build, train and evaluate as `steps` says, and print the results; None: only build.

    Raises:
        ZutisError: one sentence, for the user.
    """
    started = time.monotonic()
    console = Console()
    outcome = obtain_outcome(settings, steps, console)
    print_summary(summarise(outcome.build, outcome.reports), console)
    if outcome.training is not None:
        from flows.commands.train import print_training

        print_training(outcome.training, console)
    if outcome.evaluation is not None:
        from flows.commands.evaluate import print_scores

        print_scores(outcome.evaluation, console)
    if steps is not None and steps.report and outcome.report is None:
        outcome.report = _write_report(outcome.build, console)
    if outcome.report:
        console.print(
            f"Report: {display(outcome.report)}", highlight=False, soft_wrap=True, markup=False
        )
    console.print(f"Finished in {time.monotonic() - started:.1f} s.", highlight=False)


def _write_report(built: Build, console: Console) -> str:
    """Write the page on a build, if it is not there yet; returns its place."""
    from flows.reports.report import report_at_end

    def warn(sentence: str) -> None:
        console.print(f"[bold yellow]{escape(sentence)}[/]", highlight=False, soft_wrap=True)

    with waiting_for(console, "Writing the page"):
        return report_at_end(built.dataset, warn)


def obtain_outcome(settings: BuildSettings, steps: NextSteps | None, console: Console) -> Outcome:
    """Find what is there already, or run the flow, with its progress on the console.

    Raises:
        ZutisError: one sentence, for the user.
    """
    with waiting_for(console, LOOKING):
        found = find_outcome(settings, steps)
    return found or _run_flow(settings, steps, console)


def find_outcome(settings: BuildSettings, steps: NextSteps | None = None) -> Outcome | None:
    """The published results, found without Prefect; None if anything has to be computed.

    Mistakes in the settings are reported here, before a server is started. Where a Prefect server
    is configured, the run belongs in its UI, cached or not.
    """
    if steps is not None:
        steps.check()
    if settings.repair:
        return None
    executor = CachedExecutor(ArtifactStore(settings.store))
    try:
        outcome = Outcome(build(settings, executor), executor.reports)
        if steps is not None and steps.trains:
            _find_next(outcome, steps, executor)
    except NotCached:
        return None
    return None if server_is_configured() else outcome


def _find_next(outcome: Outcome, steps: NextSteps, executor: CachedExecutor) -> None:
    """Find the training and the evaluation that follow the build.

    Raises:
        NotCached: they are not published, or only another machine can tell.
    """
    from flows.pipelines.rounds import train_rounds
    from flows.pipelines.training import evaluate_model, trained_model
    from flows.settings.training import training_config

    if steps.work_pool:
        raise NotCached("train")
    config, dataset = training_config(steps.training), outcome.build.dataset
    outcome.training = train_rounds(config, steps.training.rounds, dataset, executor)[-1].training
    if steps.evaluation is not None and steps.evaluates:
        model = trained_model(outcome.training)
        outcome.evaluation = evaluate_model(steps.evaluation, model, executor)


def _run_flow(settings: BuildSettings, steps: NextSteps | None, console: Console) -> Outcome:
    if not settings.cluster:
        require_device(settings.device)
    with TerminalWatcher(console, awaiting=STARTING_PREFECT) as watcher:
        begin_prefect()
        from flows import build_pseudolabels, evaluate_zutis, train_zutis
        from flows.commands.train import telling_iterations

        with telling_iterations(console):
            caller = build_pseudolabels.call_build(settings, steps or NextSteps(), watcher)
    return Outcome(
        caller.results[build_pseudolabels.FLOW],
        caller.reports,
        caller.results.get(train_zutis.FLOW),
        caller.results.get(evaluate_zutis.FLOW),
        caller.results.get(build_pseudolabels.REPORT),
    )
