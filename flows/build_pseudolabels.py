"""The flow `build-pseudolabels`: from a corpus and a vocabulary to shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from pydantic import BaseModel

from flows import evaluate_zutis, train_zutis
from flows.execution.caller import Caller, calling, current_caller
from flows.execution.child_runs import Result, publish_result, run_in_pool
from flows.execution.prefect_executor import PrefectExecutor
from flows.execution.progress import StageProgress, Watcher
from flows.pipelines.build import Build, build
from flows.pipelines.training import Evaluated
from flows.reports.report import link_of, report_at_end
from flows.settings.build import BuildSettings
from flows.settings.next_steps import BuildOptions, NextSteps
from flows.settings.options import given_by, part_of, with_parameters_of
from flows.summaries.build import markdown, summarise
from flows.summaries.data_uris import data_uri
from flows.upkeep.repair import repair_store
from storage.artifacts.leases import using
from storage.artifacts.store import Artifact, ArtifactRef, ArtifactStore
from storage.files.filesystems import display
from storage.shards.samples import ShardSamples
from tasks.packing.mask_sheet import draw_mask_sheet
from tasks.packing.quality_sheet import draw_best_and_worst, quality_of

FLOW = "build-pseudolabels"
REPORT = "report"
"""Under which a caller finds the place of the page on the build."""


def _run_name() -> str:
    corpus = flow_run.parameters["corpus"]
    return _title(
        flow_run.parameters["vocabulary"], [corpus] if isinstance(corpus, str) else corpus
    )


def _title(vocabulary: str, corpus: Sequence[str]) -> str:
    return f"{vocabulary} from {', '.join(map(display, corpus))}"[:200]


@flow(name=FLOW, flow_run_name=_run_name, validate_parameters=True)
@with_parameters_of(BuildOptions)
def build_pseudolabels(**parameters: Any) -> list[Result]:
    """Retrieve, mask and pack the images that show a vocabulary's categories; then train on them
    and evaluate, if asked.

    Returns:
        The data set, the model and its evaluations: `stage`, `key` and `location` of each.
    """
    options = BuildOptions(**given_by(BuildOptions, parameters))
    settings, steps = part_of(BuildSettings, options), part_of(NextSteps, options)
    steps.check()
    artifact_store = ArtifactStore(settings.store)
    with using(artifact_store, FLOW, _title(settings.vocabulary, settings.corpus)):
        built = _build(settings, artifact_store)
        results = publish_result(built.dataset)
        if steps.trains:
            results += _train(steps, built.dataset, current_caller())
        if steps.evaluates:
            results += _evaluate(steps, results[-1]["key"], artifact_store, current_caller())
        if steps.report:
            _write_report(built)
    return results


def _write_report(built: Build) -> None:
    """Write the page on the build and link it in the UI."""
    place = report_at_end(built.dataset, get_run_logger().warning)
    current_caller().results[REPORT] = place
    if place:
        create_link_artifact(
            link=link_of(place),
            link_text="The page on the build",
            key="report",
            description=f"Labels by category and quality, and what was left out: {display(place)}",
        )


def _build(settings: BuildSettings, store: ArtifactStore) -> Build:
    if settings.repair:
        for line in repair_store(store):
            get_run_logger().warning(line)
    caller = current_caller()
    executor = PrefectExecutor(store, caller.watcher, settings.workers, settings.cluster)
    built = build(settings, executor)
    _publish_to_ui(built, executor.reports)
    caller.results[FLOW] = built
    caller.reports += executor.reports
    return built


def run_build(
    settings: BuildSettings, watcher: Watcher, steps: NextSteps | None = None
) -> tuple[Build, list[StageProgress]]:
    """Run the flow in this process, with its progress shown by `watcher` as well.

    Raises:
        ZutisError: one sentence, for the user.
    """
    caller = call_build(settings, steps or NextSteps(), watcher)
    return caller.results[FLOW], caller.reports


def call_build(settings: BuildSettings, steps: NextSteps, watcher: Watcher) -> Caller:
    """Like `run_build`, but returns the results of all flows that ran.

    `results` has a `Build`, an `Artifact` for the training and `Evaluated` for the evaluation, by
    the flow's names.
    """
    parameters: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in settings
    }
    with calling(watcher) as caller:
        build_pseudolabels(
            **parameters,
            then=steps.then,
            training=steps.training,
            evaluation=steps.evaluation,
            work_pool=steps.work_pool,
            report=steps.report,
        )
    return caller


def _train(steps: NextSteps, dataset: Artifact, caller: Caller) -> list[Result]:
    parameters: dict[str, Any] = {
        "dataset": dataset.key, "training": steps.training, "store": dataset.store.root
    }  # fmt: skip
    if not steps.work_pool:
        made: list[Result] = train_zutis.train_zutis(**parameters)
        return made
    rows = run_in_pool(train_zutis.FLOW, steps.work_pool, _as_json(parameters))
    caller.results[train_zutis.FLOW] = _artifact(rows[0], dataset.store)
    return rows


def _evaluate(
    steps: NextSteps, training: str, store: ArtifactStore, caller: Caller
) -> list[Result]:
    parameters: dict[str, Any] = {
        "evaluation": steps.evaluation, "checkpoint": training, "store": store.root
    }  # fmt: skip
    if not steps.work_pool:
        made: list[Result] = evaluate_zutis.evaluate_zutis(**parameters)
        return made
    rows = run_in_pool(evaluate_zutis.FLOW, steps.work_pool, _as_json(parameters))
    model, *baseline = (_artifact(row, store) for row in rows)
    caller.results[evaluate_zutis.FLOW] = Evaluated(model, baseline[0] if baseline else None)
    return rows


def _as_json(parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for name, value in parameters.items()
    }


def _artifact(row: Result, store: ArtifactStore) -> Artifact:
    return store.get(ArtifactRef(row["stage"], row["key"]))


def _publish_to_ui(built: Build, reports: list[StageProgress]) -> None:
    summary = summarise(built, reports)
    create_table_artifact(
        summary.categories, key="categories", description=summary.warning or "Samples a category"
    )
    create_markdown_artifact(markdown(summary), key="summary", description="Summary of the build")
    if built.dataset.counts["samples"]:
        create_image_artifact(
            data_uri(draw_mask_sheet(ShardSamples.open(built.dataset))),
            key="masks",
            description=f"Some of the pseudo-masks. {summary.warning}".strip(),
        )
        _publish_best_and_worst(built)


def _publish_best_and_worst(built: Build) -> None:
    """A picture of the labels of highest and of lowest quality, where they have one."""
    if built.judged is None:
        return
    samples = ShardSamples.open(built.dataset)
    picture = draw_best_and_worst(samples, quality_of(samples, built.judged.chosen))
    if picture:
        create_image_artifact(
            data_uri(picture),
            key="best-and-worst",
            description="The labels of highest and of lowest quality",
        )
