"""The flow `train-zutis`: from shards to a trained model."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_image_artifact, create_markdown_artifact
from prefect.runtime import flow_run

from flows.execution.caller import current_caller
from flows.execution.child_runs import Result, publish_result
from flows.execution.prefect_executor import PrefectExecutor
from flows.pipelines.rounds import train_rounds
from flows.pipelines.training import find_dataset
from flows.settings.options import with_parameters_of
from flows.settings.training import (
    TrainingSettings,
    TrainParameters,
    training_config,
    training_title,
)
from flows.summaries.data_uris import data_uri
from flows.summaries.training import training_facts
from storage.artifacts.leases import using
from storage.artifacts.store import Artifact, ArtifactStore
from tasks.training.train import TRAINING_PREVIEW

FLOW = "train-zutis"


def _run_name() -> str:
    parameters = flow_run.parameters
    training = TrainingSettings.model_validate(parameters["training"])
    return training_title(training, parameters["dataset"])


@flow(name=FLOW, flow_run_name=_run_name, validate_parameters=True)
@with_parameters_of(TrainParameters)
def train_zutis(**parameters: Any) -> list[Result]:
    """Train ZUTIS on a data set of pseudo-labels; a run that was stopped continues.

    Returns:
        The model: one row with `stage`, `key` and `location`.
    """
    options = TrainParameters(**parameters)
    training, dataset = options.training, options.dataset
    caller = current_caller()
    artifacts = ArtifactStore(options.store)
    executor = PrefectExecutor(artifacts, caller.watcher, workers=1)
    with using(artifacts, FLOW, training_title(training, dataset)):
        chosen = find_dataset(artifacts, dataset)
        done = train_rounds(training_config(training), training.rounds, chosen, executor)
        trained = done[-1].training
    caller.results[FLOW] = trained
    caller.reports += executor.reports
    _publish_to_ui(trained)
    return publish_result(trained)


def _publish_to_ui(trained: Artifact) -> None:
    rows = [f"| {name} | {value} |" for name, value in training_facts(trained).items()]
    lines = ["| training | |", "|---|---|", *rows]
    create_markdown_artifact("\n".join(lines), key="training", description="What was trained")
    if TRAINING_PREVIEW in trained.files:
        with trained.open(TRAINING_PREVIEW) as file:
            image = data_uri(file.read())
        create_image_artifact(
            image,
            key="training-crops",
            description="Training crops: image, pseudo-label, prediction",
        )
