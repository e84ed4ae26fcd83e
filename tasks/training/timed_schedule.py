"""The learning rate of a training that ends after its steps or by the clock, whichever is first.

It warms up evenly and then falls as a cosine over how much of the training is done, so that it has
fallen all the way when the clock ends the training.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

from storage.errors.exceptions import ConfigError

_LAST_RATE: Final = 0.01
"""Of the highest rate, where the cosine ends."""


class TimedTraining(Protocol):
    """What a training's configuration says of it.

    Attributes:
        steps: batches.
        learning_rate: the highest, after the warm-up.
        warmup_steps: in which the rate rises evenly.
        max_seconds: the training ends then at the latest; 0: no limit.
    """

    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def max_seconds(self) -> float: ...


def learning_rate(config: TimedTraining, step: int, done: float) -> float:
    """The rate of the batch after `step` others, when `done` (0..1) of the training is over."""
    warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
    cosine = _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * warm * cosine


def share_done(config: TimedTraining, step: int, seconds: float) -> float:
    """How much of the training is over, 0..1, after so many batches and seconds."""
    by_time = seconds / config.max_seconds if config.max_seconds else 0.0
    return min(1.0, max(step / config.steps, by_time))


def check_loss(config: TimedTraining, step: int, loss: float) -> None:
    """Raises ConfigError if the loss of a batch is not finite, as with too high a rate."""
    if not math.isfinite(loss):
        raise ConfigError(
            f"The loss of batch {step} is {loss}: choose a smaller learning_rate than"
            f" {config.learning_rate}."
        )
