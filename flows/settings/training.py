"""The settings of a training."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from flows.settings.build import DEFAULT_TRAINING_CLIP, clip_model
from flows.settings.options import Group, values_for
from flows.settings.recipes import departures, with_recipe
from flows.settings.shared import DeviceOptions, RecipeOption, StoreOptions
from flows.settings.value_types import (
    AtLeastOne,
    AtLeastZero,
    ClipName,
    Positive,
    Seed,
    Share,
    Texts,
)
from storage.vocabularies.category_splits import expand_names
from tasks.training import train
from tasks.training.samples import SampleRecipe
from tasks.training.step import Optimisation

MOST_PIXELS = 16_384
"""Along a side of any image that is read."""
MOST_PROCESSES = 1_024


class TrainingSettings(RecipeOption, DeviceOptions):
    """How ZUTIS is trained; the defaults are those of the published COCO and CoCA models with
    ViT-B/16, but for the precision. Those of each published model are a recipe."""

    subject: ClassVar[str] = "training"

    clip: Annotated[ClipName, Group.MAIN] = DEFAULT_TRAINING_CLIP
    """CLIP to start from, a ViT: ARCHITECTURE:WEIGHTS, the weights a tag, a file or random:SEED."""

    iterations: Annotated[AtLeastOne, Group.MAIN] = 20_000
    """Optimiser steps."""
    rounds: Annotated[AtLeastOne, Group.MAIN] = 1
    """Trainings one after the other, of as many iterations each: from the second on, with the
    labels that the last network agrees with sharpened by it."""
    batch_size: Annotated[AtLeastOne, Group.MAIN] = 8
    """Samples of a step, all processes together."""
    learning_rate: Annotated[Positive, Group.MAIN] = 5e-5
    """Learning rate at the start; the encoder has `encoder_factor` of it."""
    encoder_factor: Annotated[Positive, Group.LOSSES] = 0.1
    """Learning rate of the encoder, as a factor of the other."""
    weight_decay: Annotated[AtLeastZero, Group.LOSSES] = 0.05
    """Weight decay of AdamW."""
    power: Annotated[Positive, Group.LOSSES] = 0.9
    """Power of the polynomial decay of the learning rates."""
    min_learning_rate: Annotated[AtLeastZero, Group.LOSSES] = 1e-6
    """Floor of the learning rates."""
    max_gradient_norm: Annotated[Positive | None, Group.LOSSES] = None
    """Norm that longer gradients are clipped to; none: no clipping."""
    muon_factor: Annotated[Positive | None, Group.LOSSES] = None
    """Factor of the learning rates at which Muon trains the matrices inside blocks; none: AdamW."""
    ema_decay: Annotated[Annotated[float, Field(gt=0, lt=1)] | None, Group.LOSSES] = None
    """Publish an exponential moving average of the weights with this decay; none: the weights."""
    ce_weight: Annotated[AtLeastZero, Group.LOSSES] = 1.0
    """Weight of the cross entropy with the text embeddings."""
    mask_weight: Annotated[AtLeastZero, Group.LOSSES] = 1.0
    """Weight of the mask losses together."""
    dice_weight: Annotated[AtLeastZero, Group.LOSSES] = 1.0
    """Weight of the dice loss."""
    bce_weight: Annotated[AtLeastZero, Group.LOSSES] = 1.0
    """Weight of the binary cross entropy of masks."""
    ce_scale: Annotated[Positive, Group.LOSSES] = 1.0
    """Factor of the cosines with the text embeddings in the cross entropy."""

    crop: Annotated[int, Field(ge=16, le=MOST_PIXELS), Group.MAIN] = 384
    """Rows and columns of a training crop, pixels."""
    min_objects: Annotated[int, Field(ge=1, le=255), Group.SAMPLES] = 1
    """Least number of objects in a sample."""
    max_objects: Annotated[int, Field(ge=1, le=255), Group.SAMPLES] = 10
    """Largest number of objects in a sample."""
    same_category_probability: Annotated[Share, Group.SAMPLES] = 0.5
    """Probability that all objects of a sample are of one category."""
    min_scale: Annotated[Positive, Group.SAMPLES] = 0.1
    """Least random scale of an image."""
    max_scale: Annotated[Positive, Group.SAMPLES] = 1.0
    """Largest random scale of an image."""
    flip: Annotated[Share, Group.SAMPLES] = 0.5
    """Probability of a horizontal flip."""
    jitter: Annotated[tuple[AtLeastZero, AtLeastZero, AtLeastZero, AtLeastZero], Group.SAMPLES] = (
        0.8,
        0.8,
        0.8,
        0.2,
    )
    """Strength of the colour jitter: brightness, contrast, saturation, hue."""
    jitter_probability: Annotated[Share, Group.SAMPLES] = 0.8
    """Probability of the colour jitter."""
    greyscale: Annotated[Share, Group.SAMPLES] = 0.2
    """Probability of a greyscale image."""
    blur: Annotated[Share, Group.SAMPLES] = 0.5
    """Probability of a Gaussian blur."""
    min_sigma: Annotated[Positive, Group.SAMPLES] = 0.1
    """Least standard deviation of the blur, pixels."""
    max_sigma: Annotated[Positive, Group.SAMPLES] = 2.0
    """Largest standard deviation of the blur, pixels."""

    num_queries: Annotated[AtLeastOne, Group.NETWORK] = 100
    """Queries of the decoder: masks that are proposed for an image."""
    num_decoder_layers: Annotated[AtLeastOne, Group.NETWORK] = 6
    """Layers of the decoder."""
    num_heads: Annotated[AtLeastOne, Group.NETWORK] = 8
    """Attention heads of the decoder."""
    stop_gradient: Annotated[bool, Group.NETWORK] = True
    """Keep the gradient of the instance branch from the encoder."""
    seed: Annotated[Seed, Group.MAIN] = 0
    """Seed of the initial weights and the samples."""
    leave_out: Annotated[Texts, Group.SAMPLES] = ()
    """Categories that training does not see: names, or coco-65-15 or voc2012-15-5."""
    weight_by: Annotated[Literal["none", "quality"], Group.LOSSES] = "none"
    """What weighs the losses of objects: none, or quality, that of their labels (`--quality`)."""
    missing_categories: Annotated[Literal["train", "stop"], Group.ADVANCED] = "train"
    """What happens where a category has no sample."""

    workers: Annotated[int, Field(ge=0, le=MOST_PROCESSES), Group.MACHINE] = 2
    """Processes that make samples."""
    micro_batch: Annotated[AtLeastOne | None, Group.MACHINE] = None
    """Images that pass the network at once; none: the whole batch."""
    checkpoint_every: Annotated[AtLeastOne, Group.ADVANCED] = 500
    """Iterations from checkpoint to checkpoint."""
    keep_checkpoints: Annotated[AtLeastOne, Group.ADVANCED] = 2
    """Number of the latest checkpoints that are kept."""
    log_every: Annotated[AtLeastOne, Group.ADVANCED] = 50
    """Iterations from row to row of training.csv."""
    compiled: Annotated[bool, Group.MACHINE] = False
    """Compile the network with torch; pays on a GPU."""

    @model_validator(mode="before")
    @classmethod
    def _apply_recipe(cls, given: Any) -> Any:
        return with_recipe("training", given) if isinstance(given, dict) else given


class DatasetOptions(StoreOptions):
    """Which data set, and where artifacts are."""

    dataset: Annotated[str, Group.MAIN] = ""
    """Key of a data set, or the beginning of one; empty: the latest build's."""


class TrainOptions(TrainingSettings, DatasetOptions):
    """What `zutis train` takes."""


class TrainParameters(DatasetOptions):
    """What the flow train-zutis takes."""

    subject: ClassVar[str] = "flow train-zutis"

    training: Annotated[TrainingSettings, Group.MAIN] = TrainingSettings()
    """How to train."""


def training_config(settings: TrainingSettings) -> train.Config:
    """The stage's configuration.

    Raises:
        ConfigError: settings that don't go together.
        WeightsError: the CLIP is not there.
    """
    return train.Config(
        clip=clip_model(settings.clip, settings.device, settings.precision),
        optimisation=Optimisation(**values_for(Optimisation, settings)),
        samples=SampleRecipe(**values_for(SampleRecipe, settings)),
        **{
            **values_for(train.Config, settings, "clip", "optimisation", "samples"),
            "leave_out": expand_names(settings.leave_out),
        },
    )


def training_title(settings: TrainingSettings, dataset: str) -> str:
    """What a run is called: how much is trained, and on what.

    Args:
        settings: of the training.
        dataset: the data set's key, or its beginning; empty for the latest.
    """
    recipe = f", {facts}" if (facts := recipe_facts(settings)) else ""
    times = f"{settings.rounds} rounds of " if settings.rounds > 1 else ""
    trained_on = dataset[:12] or "the latest data set"
    return f"{times}{settings.iterations:,} iterations on {trained_on}{recipe}"


def recipe_facts(settings: TrainingSettings) -> str:
    """Which recipe is trained by, and what is otherwise than it has it; empty without a recipe."""
    others = departures("training", settings.recipe, settings.model_dump())
    changed = ", ".join(f"{name} {value}" for name, value in others.items())
    return f"{settings.recipe}, but {changed}" if changed else settings.recipe
