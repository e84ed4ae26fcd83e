"""What `zutis selfmask train` is told, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from flows.settings.build import DEFAULT_CLIP
from storage.errors.exceptions import ConfigError
from storage.errors.numbers import check_numbers

_RATE_FROM_NOTHING: Final = 1e-3
_RATE_FROM_WEIGHTS: Final = 6e-6
"""The paper's, for an encoder that knows much already: `lr` in the reference's
`configs/duts-dino-k234-nq20-224-swav-mocov2-dino-p16-sr10100.yaml`. A rate for a network that
starts from nothing would undo what trained weights know."""

PAPER: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "image_size": 224,
        "pictures": 0,
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


@dataclass(frozen=True, kw_only=True)
class SelfMaskSettings:
    """What `zutis selfmask train` is told.

    Attributes:
        corpus: whatever a build takes as its corpus.
        out: the safetensors file; weights are float16.
        include, exclude: patterns of names, relative to the corpus; see `Selection`.
        uri_column: of tables, the column that says where the pictures are; empty: a usual one.
        features: sources of the features that are clustered; see `load_patch_features`.
        start: weights to go on from, whose sizes then hold: nq20, nq10, demo or a file; '': none.
        recipe: paper, its authors' settings, for a `start`; '': none. See `PAPER`.
        width, layers, decoder_layers, queries: of a network that starts from nothing.
        image_size: pixels along a side of what the network sees in training.
        pictures: at most so many, chosen at random; 0: all of them.
        patches: that a picture is clustered as.
        least_agreement: of the candidates for a mask, 0..1; see `VoteConfig`.
        steps: batches.
        epochs: in place of `steps`, so many rounds of the pictures that are learned; 0: `steps`.
        schedule: how the rate falls, cosine (after a warm-up) or poly (without).
        views: what is seen of a picture, parts or scaled; see `selfmask_batches`.
        minutes: the training itself takes at most that long; 0: as long as its steps take.
        batch_size: pictures of a batch.
        learning_rate: the highest; None: it follows the start, see `highest_rate`.
        cross_entropy: weight of a cross entropy beside the paper's losses.
        seed: of the choice of pictures, the initial weights and all random changes.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, float32 or bfloat16.
        truth: `truth.json` of a made world's corpus, to measure with.
        learn_truth: learn the truth's masks in place of voted ones.
    """

    corpus: tuple[str, ...]
    out: Path
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    uri_column: str = ""
    features: tuple[str, ...] = (DEFAULT_CLIP,)
    start: str = ""
    recipe: str = ""
    width: int = 128
    layers: int = 8
    decoder_layers: int = 2
    queries: int = 10
    image_size: int = 128
    pictures: int = 2000
    patches: int = 576
    least_agreement: float = 0.0
    steps: int = 3000
    epochs: int = 0
    schedule: str = "cosine"
    views: str = "parts"
    minutes: float = 0.0
    batch_size: int = 16
    learning_rate: float | None = None
    cross_entropy: float = 0.0
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    truth: Path | None = None
    learn_truth: bool = False

    @property
    def highest_rate(self) -> float:
        """The learning rate that is given, else the one that suits what training starts from."""
        if self.learning_rate is not None:
            return self.learning_rate
        return _RATE_FROM_WEIGHTS if self.start else _RATE_FROM_NOTHING

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.out.suffix != ".safetensors":
            raise ConfigError(f"out is {self.out}: choose a name that ends with .safetensors.")
        self._check_recipe()
        for name in ("pictures", "minutes", "seed", "epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}: choose 0 or more.")
        for name in ("layers", "decoder_layers", "queries"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: choose 1 or more.")
        if self.width < 32 or self.width % 32:
            raise ConfigError(f"width is {self.width}: choose a multiple of 32.")
        if not self.corpus:
            raise ConfigError("No corpus is given: name one with --corpus DIR.")
        if not self.features and not self.learn_truth:
            raise ConfigError("No features are given: name some with --features ARCH:WEIGHTS.")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(f"precision is {self.precision!r}: choose auto, float32 or bfloat16.")
        if self.truth is None and self.learn_truth:
            raise ConfigError("There is no truth to learn: name it with --truth FILE.")
        if self.truth is not None and not (
            self.truth.name == "truth.json" and self.truth.is_file()
        ):
            raise ConfigError(f"truth is {self.truth}: give the file truth.json of a made corpus.")

    def _check_recipe(self) -> None:
        if self.recipe not in ("", "paper"):
            raise ConfigError(f"recipe is {self.recipe!r}: choose paper, or none.")
        if self.recipe and not self.start:
            raise ConfigError(
                "The recipe paper is for weights that know much already: name some with --start."
            )


@dataclass(frozen=True, kw_only=True)
class SelfMaskFigures:
    """What came of a training. IoUs are 0..1 against the truth, and NaN without any.

    Attributes:
        pictures: that were read.
        learned: that had a mask.
        loss: of the last batch.
        dice: mean dice loss of the last batch, over layers and queries.
        votes_iou: of the pseudo-masks, on all pictures that have one.
        network_iou: of the network's masks, on at most 300 of the corpus's pictures.
        refined_iou: likewise, after refinement.
    """

    pictures: int
    learned: int
    loss: float
    dice: float
    votes_iou: float
    network_iou: float
    refined_iou: float
