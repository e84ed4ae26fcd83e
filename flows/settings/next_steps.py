"""What follows a build: nothing, training, or training and evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import model_validator

from flows.settings.build import BuildSettings, clip_model
from flows.settings.evaluation import EvaluationSettings, asked_categories, opened_set
from flows.settings.options import Group, Settings
from flows.settings.recipes import with_recipe
from flows.settings.shared import RecipeOption
from flows.settings.training import TrainingSettings, training_config
from storage.errors.exceptions import ConfigError
from tasks.stage.models import require_patch_tokens


class NextSteps(Settings):
    """What a build triggers."""

    subject: ClassVar[str] = "build"

    then: Annotated[Literal["none", "train", "train+evaluate"], Group.NEXT] = "none"
    """What follows the build."""
    training: Annotated[TrainingSettings, Group.NEXT] = TrainingSettings()
    """How to train: options of `zutis train`."""
    evaluation: Annotated[EvaluationSettings | None, Group.NEXT] = None
    """On what to evaluate, and how: options of `zutis evaluate`."""
    work_pool: Annotated[str, Group.NEXT] = ""
    """Prefect work pool that trains and evaluates; empty: this process."""
    report: Annotated[bool, Group.NEXT] = True
    """Write a page on the build, `STORE/reports/KEY.html`, when all is done."""

    @model_validator(mode="after")
    def _check_evaluation(self) -> Self:
        if self.evaluates and self.evaluation is None:
            raise ConfigError(
                "then is train+evaluate, and nothing says on what to evaluate: give --evaluation "
                "on=DATASET."
            )
        return self

    @model_validator(mode="after")
    def _check_rounds(self) -> Self:
        if not self.trains and self.training.rounds > 1:
            raise ConfigError(
                f"rounds is {self.training.rounds}, and nothing is trained: add --then train."
            )
        return self

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


class BuildOptions(RecipeOption, BuildSettings, NextSteps):
    """What `zutis build` and the flow build-pseudolabels take."""

    @model_validator(mode="before")
    @classmethod
    def _pass_on(cls, given: Any) -> Any:
        """The recipe, or else the CLIP that is given, holds for what follows, too."""
        if not isinstance(given, Mapping):
            return given
        values = with_recipe("build", given)
        recipe, clip = given.get("recipe"), given.get("clip")
        passed = {"recipe": recipe} if recipe else {"clip": clip} if clip else {}
        if passed:
            values["training"] = _beside(passed, values.get("training", {}))
        if recipe and values.get("evaluation"):
            values["evaluation"] = _beside(passed, values["evaluation"])
        return values

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.trains and self.training.weight_by == "quality" and not self.judges_labels:
            raise ConfigError(
                "A training with weight_by=quality needs labels of known quality: add --quality."
            )
        return self


def _beside(passed: Mapping[str, Any], settings: Any) -> Any:
    """Settings in any form, with values for what they leave open."""
    if isinstance(settings, Settings):
        settings = settings.model_dump(exclude_unset=True)
    return {**passed, **settings} if isinstance(settings, Mapping) else settings
