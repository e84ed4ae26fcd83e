"""The settings of an evaluation: parameters of the flow, and NAME=VALUE on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flows.settings.recipes import RecipeName, with_recipe
from flows.settings.run_form import DataSetName, DeviceName, Precision
from storage.errors.numbers import LARGEST
from storage.evaluation_sets.opening import EvaluationSet, open_evaluation_set
from storage.vocabularies.vocabulary import Category, load_vocabulary
from tasks.categories.class_matching import in_class_order
from tasks.prediction.segmenter import InstanceSettings

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]


class EvaluationSettings(BaseModel):
    """What a model is compared with, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    on: DataSetName
    """A data set of `zutis benchmark list`, coco:FILE.json[@IMAGES] or
    folder:IMAGES+LABELS[+NAMES]."""
    recipe: RecipeName = ""
    """A published model's settings, for all that is not given here; empty: the defaults."""
    data: str = ""
    """Folder of all published data sets; else the environment variable ZUTIS_DATA."""
    skip_bad: bool = False
    """Leave faulty annotations of coco:FILE.json out and list them, rather than refuse the file."""
    vocabulary: str = ""
    """Name or path of a vocabulary that the model is asked with, a category for each of the data
    set's, matched by name; else the data set's own names."""
    classes: dict[str, str] | Literal["", "in-order"] = ""
    """The data set's class of each of the vocabulary's names that is not the data set's own,
    {NAME: CLASS, …}; or in-order where the vocabulary lists other words in the set's order."""
    collapse_to: str = ""
    """Score all categories as this one, such as bird; the vocabulary may then be any."""
    seen: tuple[str, ...] | None = None
    """The data set's categories that training knew; none: all but those it left out."""
    baseline: bool = True
    """Evaluate MaskCLIP, which needs no training, beside the model."""
    maskclip: str = ""
    """ARCHITECTURE:WEIGHTS of the baseline; else the model's own CLIP."""
    clip: str = ""
    """ARCHITECTURE:WEIGHTS that reads the names; else the one that the model was trained from."""
    device: DeviceName = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Precision = "auto"
    """auto (bfloat16 on a GPU, float32 elsewhere), float32 or bfloat16."""
    image_size: Annotated[int, Field(ge=0, le=LARGEST)] = 1024
    """Longer side that the network sees at most, pixels; 0: no limit."""
    upright: bool = False
    """The data was annotated on pictures turned upright by their EXIF orientation, and not as they
    are stored."""
    limit: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    """The first images alone, for trials; 0: all."""

    threshold: Probability = 0.5
    """A mask is where its proposal is above."""
    temperature: Positive = 5.0
    """Of the cosine in an instance's score."""
    suppression: Literal["hard", "linear", "gaussian", "none"] = "hard"
    """Of overlapping masks of one category."""
    suppression_threshold: Probability = 0.3
    """IoU that hard and linear suppression still allow."""
    sigma: Positive = 0.5
    """Of gaussian suppression."""
    score_threshold: Annotated[float, Field(ge=0, le=LARGEST)] = 0.001
    """What suppression leaves below it is dropped."""
    min_score: Probability = 0.0
    """Instances below it are left out; 0 for scores such as AP."""

    @model_validator(mode="before")
    @classmethod
    def _apply_recipe(cls, given: Any) -> Any:
        return with_recipe("evaluation", given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if self.classes and (not self.vocabulary or self.collapse_to):
            raise ValueError(
                "it says what the vocabulary's names are in the data set: give a vocabulary with "
                "it, and no collapse_to"
            )
        return self

    @property
    def instances(self) -> InstanceSettings:
        return InstanceSettings(
            threshold=self.threshold,
            temperature=self.temperature,
            suppression=self.suppression,
            suppression_threshold=self.suppression_threshold,
            sigma=self.sigma,
            score_threshold=self.score_threshold,
            min_score=self.min_score,
        )


def opened_set(settings: EvaluationSettings) -> EvaluationSet:
    """The data set to evaluate on.

    Raises:
        ZutisError: as `storage.evaluation_sets.opening.open_evaluation_set`.
    """
    root = Path(settings.data) if settings.data else None
    return open_evaluation_set(settings.on, root, skip_bad=settings.skip_bad)


def asked_categories(settings: EvaluationSettings, used: EvaluationSet) -> tuple[Category, ...]:
    """The vocabulary's categories, in the set's order unless all are scored as one.

    Empty without a vocabulary.

    Raises:
        ConfigError: the names don't say which class is which.
        VocabularyError: the vocabulary can't be used.
    """
    if not settings.vocabulary:
        return ()
    given = load_vocabulary(settings.vocabulary).categories
    if settings.collapse_to:
        return given
    return in_class_order(used.categories, given, settings.classes, used.name)
