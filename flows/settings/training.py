"""The settings of a training: parameters of the flow, and NAME=VALUE on the command line."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flows.settings.build import DEFAULT_TRAINING_CLIP, clip_model
from flows.settings.recipes import RecipeName, departures, with_recipe
from flows.settings.run_form import ClipName, DeviceName, Precision
from storage.errors.numbers import LARGEST, LARGEST_SEED
from storage.vocabularies.category_splits import expand_names
from tasks.training import train
from tasks.training.samples import SampleRecipe
from tasks.training.step import Optimisation

Count = Annotated[int, Field(ge=1, le=LARGEST)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
AtLeast0 = Annotated[float, Field(ge=0, le=LARGEST)]

MOST_PIXELS = 16_384
"""Along a side of any picture that is read."""
MOST_PROCESSES = 1_024


class TrainingSettings(BaseModel):
    """How ZUTIS is trained; the defaults are those of the published COCO and CoCA models with
    ViT-B/16, but for the precision. Those of each published model are a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    recipe: RecipeName = ""
    """A published model's settings, for all that is not given here; empty: the defaults."""
    clip: ClipName = DEFAULT_TRAINING_CLIP
    """ARCHITECTURE:WEIGHTS that training starts from: a ViT; a tag, a file or random:SEED."""
    device: DeviceName = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Precision = "auto"
    """auto (bfloat16 on a GPU, float32 elsewhere), float32 or bfloat16."""

    iterations: Count = 20_000
    """Optimiser steps."""
    batch_size: Count = 8
    """Samples of a step, over all processes."""
    learning_rate: Positive = 5e-5
    """Of everything but the encoder, at the start."""
    encoder_factor: Positive = 0.1
    """The encoder's learning rate, as a factor of the other."""
    weight_decay: AtLeast0 = 0.05
    """AdamW's."""
    power: Positive = 0.9
    """Of the polynomial decay of the learning rate."""
    min_learning_rate: AtLeast0 = 1e-6
    """Floor of the learning rates."""
    max_gradient_norm: Positive | None = None
    """Longer gradients are shortened to this norm; none: they are left."""
    muon_factor: Positive | None = None
    """Matrices inside blocks are learned by Muon, at this factor of the rates; none: by AdamW."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Publish a moving average of the weights, of which each step keeps this share."""
    ce_weight: AtLeast0 = 1.0
    """Of the cross entropy with the text embeddings."""
    mask_weight: AtLeast0 = 1.0
    """Of the mask losses together."""
    dice_weight: AtLeast0 = 1.0
    """Of the dice loss."""
    bce_weight: AtLeast0 = 1.0
    """Of the binary cross entropy of masks."""
    ce_scale: Positive = 1.0
    """What cosines with the text embeddings are multiplied with before the cross entropy."""

    crop: Annotated[int, Field(ge=16, le=MOST_PIXELS)] = 384
    """Rows and columns of a training sample, pixels."""
    min_objects: Annotated[int, Field(ge=1, le=255)] = 1
    """Objects of a sample, at least."""
    max_objects: Annotated[int, Field(ge=1, le=255)] = 10
    """Objects of a sample, at most."""
    same_category_probability: Probability = 0.5
    """That all objects of a sample are of one category."""
    min_scale: Positive = 0.1
    """Of a picture, at least."""
    max_scale: Positive = 1.0
    """Of a picture, at most."""
    flip: Probability = 0.5
    """Probability of exchanging left and right."""
    jitter: tuple[AtLeast0, AtLeast0, AtLeast0, AtLeast0] = (0.8, 0.8, 0.8, 0.2)
    """Brightness, contrast, saturation and hue of the colour jitter."""
    jitter_probability: Probability = 0.8
    """Of any colour jitter at all."""
    greyscale: Probability = 0.2
    """Probability of taking colours away."""
    blur: Probability = 0.5
    """Probability of a Gaussian blur."""
    min_sigma: Positive = 0.1
    """Of the blur, pixels, at least."""
    max_sigma: Positive = 2.0
    """Of the blur, pixels, at most."""

    num_queries: Count = 100
    """Of the decoder: masks proposed for a picture."""
    num_decoder_layers: Count = 6
    """Layers of the decoder."""
    num_heads: Count = 8
    """Attention heads of the decoder."""
    stop_gradient: bool = True
    """The instance branch does not train the encoder."""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    """Of the initial weights and the samples."""
    leave_out: tuple[str, ...] = ()
    """Categories that training is not to know; names, or coco-65-15 or voc2012-15-5."""
    missing_categories: Literal["train", "stop"] = "train"
    """Train although a category has no sample, or stop."""

    workers: Annotated[int, Field(ge=0, le=MOST_PROCESSES)] = 2
    """Processes that make samples."""
    micro_batch: Count | None = None
    """Images that are learned at once; none: all of a batch."""
    checkpoint_every: Count = 500
    """Iterations from checkpoint to checkpoint."""
    keep_checkpoints: Count = 2
    """How many of the latest checkpoints stay."""
    log_every: Count = 50
    """Iterations from row to row of training.csv."""
    compiled: bool = False
    """Compile the network with torch; worth it on a GPU."""

    @model_validator(mode="before")
    @classmethod
    def _apply_recipe(cls, given: Any) -> Any:
        return with_recipe("training", given) if isinstance(given, dict) else given


def training_config(settings: TrainingSettings) -> train.Config:
    """The stage's configuration.

    Raises:
        ConfigError: settings that don't go together.
        WeightsError: the CLIP is not there.
    """
    return train.Config(
        clip=clip_model(settings.clip, settings.device, settings.precision),
        optimisation=Optimisation(**_values(settings, Optimisation)),
        samples=SampleRecipe(**_values(settings, SampleRecipe)),
        **{
            **_values(settings, train.Config, "clip", "optimisation", "samples"),
            "leave_out": expand_names(settings.leave_out),
        },
    )


def _values(settings: TrainingSettings, kind: Any, *others: str) -> dict[str, Any]:
    return {
        field.name: getattr(settings, field.name)
        for field in fields(kind)
        if field.name not in others
    }


def training_title(settings: TrainingSettings, dataset: str) -> str:
    """What a run is called: how much is trained, and on what.

    Args:
        settings: of the training.
        dataset: the data set's key, or its beginning; empty for the latest.
    """
    recipe = f", {facts}" if (facts := recipe_facts(settings)) else ""
    return f"{settings.iterations:,} iterations on {dataset[:12] or 'the latest data set'}{recipe}"


def recipe_facts(settings: TrainingSettings) -> str:
    """Which recipe is trained by, and what is otherwise than it has it; empty without a recipe."""
    others = departures("training", settings.recipe, settings.model_dump())
    changed = ", ".join(f"{name} {value}" for name, value in others.items())
    return f"{settings.recipe}, but {changed}" if changed else settings.recipe
