"""Learning-rate schedule of a training that ends after its steps or at a time limit.

The rate rises linearly and then falls as a cosine of the finished share of the training, by steps
or by time, so that it is lowest at the end in either case.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

from storage.errors.exceptions import ConfigError

_LAST_RATE: Final = 0.01
"""The cosine's last value, as a share of the highest rate."""


class TimedTraining(Protocol):
    """The settings that the schedule needs.

    Attributes:
        steps: number of batches.
        learning_rate: the highest, after the warm-up.
        warmup_steps: over which the rate rises linearly.
        max_seconds: time limit; 0: none.
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
    """The learning rate after `step` batches, when the share `done` (0..1) is finished."""
    warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
    cosine = _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * warm * cosine


def share_done(config: TimedTraining, step: int, seconds: float) -> float:
    """The finished share of the training, 0..1, after so many batches and seconds."""
    by_time = seconds / config.max_seconds if config.max_seconds else 0.0
    return min(1.0, max(step / config.steps, by_time))


def check_loss(config: TimedTraining, step: int, loss: float) -> None:
    """Check that the loss of a batch is finite.

    Raises:
        ConfigError: it is not, for instance because the learning rate is too high.
    """
    if not math.isfinite(loss):
        raise ConfigError(
            f"The loss of batch {step} is {loss}: choose a smaller learning_rate than"
            f" {config.learning_rate}."
        )
