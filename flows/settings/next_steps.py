"""What follows a build: nothing, training, or training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from flows.settings.build import clip_model
from flows.settings.evaluation import EvaluationSettings, asked_categories, opened_set
from flows.settings.training import TrainingSettings, training_config
from storage.errors.exceptions import ConfigError
from tasks.stage.models import require_patch_tokens

Then = Literal["none", "train", "train+evaluate"]


@dataclass(frozen=True, kw_only=True)
class NextSteps:
    """What a build triggers.

    Attributes:
        then: none, train, or train+evaluate.
        training: how to train.
        evaluation: on what to evaluate; None unless that is asked for.
        work_pool: where both run; empty for this process.

    Raises:
        ConfigError: evaluation is asked for and not described, or there is no such step.
    """

    then: Then = "none"
    training: TrainingSettings = field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings | None = None
    work_pool: str = ""

    def __post_init__(self) -> None:
        if self.then not in get_args(Then):
            raise ConfigError(f"then is {self.then!r}: choose none, train or train+evaluate.")
        if self.evaluates and self.evaluation is None:
            raise ConfigError(
                "then is train+evaluate, and nothing says on what to evaluate: give --evaluation "
                "on=DATASET."
            )

    @property
    def trains(self) -> bool:
        return self.then != "none"

    @property
    def evaluates(self) -> bool:
        return self.then == "train+evaluate"

    def check(self) -> None:
        """Find mistakes before a build begins, as far as they show on this machine.

        Raises:
            ZutisError: one sentence, for the user.
        """
        if not self.trains or self.work_pool:
            return
        training_config(self.training)
        if self.evaluates and self.evaluation is not None:
            asked_categories(self.evaluation, opened_set(self.evaluation))
            if self.evaluation.baseline and self.evaluation.maskclip:
                clip = clip_model(self.evaluation.maskclip, "cpu", "float32")
                require_patch_tokens(clip, "MaskCLIP")
