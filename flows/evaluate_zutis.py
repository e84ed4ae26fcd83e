"""The flow `evaluate-zutis`: scores of a model on annotated images, and of the baseline."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_image_artifact, create_markdown_artifact
from prefect.runtime import flow_run

from flows.execution.caller import current_caller
from flows.execution.child_runs import Result, publish_result
from flows.execution.prefect_executor import PrefectExecutor
from flows.pipelines.training import Evaluated, evaluate_model, find_model
from flows.settings.evaluation import EvaluateParameters, EvaluationSettings
from flows.settings.options import with_parameters_of
from flows.summaries.data_uris import data_uri
from storage.artifacts.leases import using
from storage.artifacts.store import ArtifactStore
from tasks.evaluation.evaluate import SHEET
from tasks.evaluation.score_table import score_notes, score_table

FLOW = "evaluate-zutis"


def _run_name() -> str:
    parameters = flow_run.parameters
    evaluation = EvaluationSettings.model_validate(parameters["evaluation"])
    return _title(parameters["checkpoint"], evaluation)


def _title(checkpoint: str, evaluation: EvaluationSettings) -> str:
    return f"{checkpoint[:20] or 'the latest model'} on {evaluation.on}"[:200]


@flow(name=FLOW, flow_run_name=_run_name, validate_parameters=True)
@with_parameters_of(EvaluateParameters)
def evaluate_zutis(**parameters: Any) -> list[Result]:
    """Score a model's labels and instances, and those of MaskCLIP beside it.

    Returns:
        The evaluations of the model and the baseline: `stage`, `key` and `location` of each.
    """
    options = EvaluateParameters(**parameters)
    evaluation, checkpoint = options.evaluation, options.checkpoint
    caller = current_caller()
    artifacts = ArtifactStore(options.store)
    executor = PrefectExecutor(artifacts, caller.watcher, workers=1)
    with using(artifacts, FLOW, _title(checkpoint, evaluation)):
        evaluated = evaluate_model(evaluation, find_model(artifacts, checkpoint), executor)
    caller.results[FLOW] = evaluated
    caller.reports += executor.reports
    _publish_to_ui(evaluated)
    return publish_result(*evaluated.all[::-1])


def _publish_to_ui(evaluated: Evaluated) -> None:
    metrics = evaluated.metrics()
    notes = "".join(f"\n\n{note}" for note in score_notes(metrics))
    create_markdown_artifact(
        f"```\n{score_table(metrics)}```{notes}", key="scores", description="Scores, in per cent"
    )
    for name, artifact in zip(("maskclip", "zutis")[-len(metrics) :], evaluated.all, strict=True):
        with artifact.open(SHEET) as file:
            image = data_uri(file.read())
        create_image_artifact(
            image,
            key=f"sheet-{name}",
            description=f"Best, median and worst images of {name}",
        )
