"""The settings and the results of `zutis selfmask train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from flows.settings.build import DEFAULT_CLIP
from flows.settings.options import Group
from flows.settings.shared import CorpusOptions, DeviceOptions
from flows.settings.value_types import (
    AtLeastOne,
    AtLeastZero,
    NotNegative,
    Positive,
    Seed,
    Share,
    Texts,
)
from storage.errors.exceptions import ConfigError
from storage.errors.numbers import LARGEST

_RATE_FROM_NOTHING: Final = 1e-3
_RATE_FROM_WEIGHTS: Final = 6e-6
"""The paper's, for an encoder that knows much already: `lr` in the reference's
`configs/duts-dino-k234-nq20-224-swav-mocov2-dino-p16-sr10100.yaml`. A rate for a network that
starts from nothing would undo what trained weights know."""

PAPER: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "image_size": 224,
        "max_images": 0,
        "epochs": 12,
        "batch_size": 8,
        "learning_rate": _RATE_FROM_WEIGHTS,
        "schedule": "poly",
        "views": "scaled",
        "cross_entropy": 0.0,
        "minutes": 0.0,
    }
)
"""The settings of that configuration; AdamW and its weight decay of 0.01 are every training's."""


class SelfMaskSettings(CorpusOptions, DeviceOptions):
    """What `zutis selfmask train` takes."""

    subject: ClassVar[str] = "SelfMask training"

    out: Annotated[Path, Group.MAIN]
    """File for the weights, .safetensors; they are float16."""
    features: Annotated[Texts, Group.MAIN] = (DEFAULT_CLIP,)
    """Features that are clustered: ARCHITECTURE:WEIGHTS of a CLIP, ENCODER:FILE of DINO's or DeiT's
    ViT-S, or colours; may be repeated."""
    start: Annotated[str, Group.MAIN] = ""
    """Weights to adapt, whose sizes then hold: nq20, nq10, demo or a file; empty: none."""
    recipe: Annotated[Literal["", "paper"], Group.MAIN] = ""
    """paper: its authors' settings, for all that is not given; for a --start."""
    steps: Annotated[AtLeastOne, Group.MAIN] = 3000
    """Number of batches."""
    max_images: Annotated[NotNegative, Group.MAIN] = 2000
    """Largest number of images to learn from, chosen at random; 0: all."""
    seed: Annotated[Seed, Group.MAIN] = 0
    """Seed of the choice of images, the initial weights and the augmentation."""

    width: Annotated[int, Field(ge=32, le=LARGEST, multiple_of=32), Group.NETWORK] = 128
    """Channels of a network that starts from nothing, a multiple of 32."""
    layers: Annotated[AtLeastOne, Group.NETWORK] = 8
    """Layers of the encoder."""
    decoder_layers: Annotated[AtLeastOne, Group.NETWORK] = 2
    """Layers of the decoder."""
    queries: Annotated[AtLeastOne, Group.NETWORK] = 10
    """Masks that are proposed for an image."""
    image_size: Annotated[AtLeastOne, Group.NETWORK] = 128
    """Pixels a side that the network sees in training."""

    patches: Annotated[AtLeastOne, Group.MASKS] = 576
    """Patches that an image is clustered as."""
    least_agreement: Annotated[Share, Group.MASKS] = 0.0
    """Least agreement of the candidates for a mask; images below it are left out."""

    learning_rate: Annotated[Positive | None, Group.LOSSES] = None
    """Highest learning rate; none: 6e-6 with --start, 1e-3 from nothing."""
    schedule: Annotated[Literal["cosine", "poly"], Group.LOSSES] = "cosine"
    """Decay of the learning rate: cosine (after a warm-up) or poly (without)."""
    cross_entropy: Annotated[AtLeastZero, Group.LOSSES] = 0.0
    """Weight of a cross entropy beside the paper's losses."""

    batch_size: Annotated[AtLeastOne, Group.SAMPLES] = 16
    """Images of a batch."""
    epochs: Annotated[NotNegative, Group.SAMPLES] = 0
    """Number of epochs, instead of --steps; 0: --steps."""
    views: Annotated[Literal["parts", "scaled"], Group.SAMPLES] = "parts"
    """What is seen of an image: parts of it, or all of it, scaled."""

    minutes: Annotated[AtLeastZero, Group.MACHINE] = 0.0
    """Longest training; 0: as long as its steps take."""

    truth: Annotated[Path | None, Group.ADVANCED] = None
    """truth.json of a made world's corpus, to measure with."""
    learn_truth: Annotated[bool, Group.ADVANCED] = False
    """Learn the ground truth's masks instead of voted ones."""

    @model_validator(mode="before")
    @classmethod
    def _apply_recipe(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("recipe") == "paper":
            return {**PAPER, **given}
        return given

    @property
    def highest_rate(self) -> float:
        """The learning rate that is given, else the one that suits what training starts from."""
        if self.learning_rate is not None:
            return self.learning_rate
        return _RATE_FROM_WEIGHTS if self.start else _RATE_FROM_NOTHING

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.out.suffix != ".safetensors":
            raise ConfigError(f"out is {self.out}: choose a name that ends with .safetensors.")
        if self.recipe and not self.start:
            raise ConfigError(
                "The recipe paper is for weights that know much already: name some with --start."
            )
        if not self.features and not self.learn_truth:
            raise ConfigError("No features are given: name some with --features ARCH:WEIGHTS.")
        if self.truth is None and self.learn_truth:
            raise ConfigError("There is no truth to learn: name it with --truth FILE.")
        if self.truth is not None and not (
            self.truth.name == "truth.json" and self.truth.is_file()
        ):
            raise ConfigError(f"truth is {self.truth}: give the file truth.json of a made corpus.")
        return self


@dataclass(frozen=True, kw_only=True)
class SelfMaskFigures:
    """Figures of a training. IoUs are 0..1 against the truth, and NaN without any.

    Attributes:
        images: that were read.
        learned: that had a mask.
        loss: of the last batch.
        dice: mean dice loss of the last batch, over layers and queries.
        votes_iou: of the pseudo-masks, on all images that have one.
        network_iou: of the network's masks, on at most 300 of the corpus's images.
        refined_iou: likewise, after refinement.
    """

    images: int
    learned: int
    loss: float
    dice: float
    votes_iou: float
    network_iou: float
    refined_iou: float
