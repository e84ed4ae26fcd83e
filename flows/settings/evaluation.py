"""The settings of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import model_validator

from flows.settings.options import Group
from flows.settings.recipes import with_recipe
from flows.settings.shared import (
    DeviceOptions,
    InstanceOptions,
    NetworkOptions,
    RecipeOption,
    StoreOptions,
)
from flows.settings.value_types import DataSetName, NotNegative
from storage.errors.exceptions import ConfigError
from storage.evaluation_sets.opening import EvaluationSet, open_evaluation_set
from storage.vocabularies.vocabulary import Category, load_vocabulary
from tasks.categories.class_matching import in_class_order


class EvaluationSettings(RecipeOption, NetworkOptions, DeviceOptions, InstanceOptions):
    """What a model is compared with, and how."""

    subject: ClassVar[str] = "evaluation"

    on: Annotated[DataSetName, Group.MAIN]
    """Data set to evaluate on: one of `zutis benchmark list`, coco:FILE.json[@IMAGES] or
    folder:IMAGES+LABELS[+NAMES]."""
    data: Annotated[str, Group.MAIN] = ""
    """Folder of all published data sets; empty: the environment variable ZUTIS_DATA."""
    skip_bad: Annotated[bool, Group.CORPUS] = False
    """Leave faulty annotations of coco:FILE.json out and list them, instead of refusing the
    file."""
    vocabulary: Annotated[str, Group.MAIN] = ""
    """Name or path of a vocabulary to ask the model with, one category for each of the data set's,
    matched by name; empty: the data set's own."""
    classes: Annotated[dict[str, str] | Literal["", "in-order"], Group.CATEGORIES] = ""
    """Class of the data set for each category of the vocabulary that has another name there,
    {CATEGORY: CLASS, …}; in-order: the vocabulary has other names in the data set's order."""
    collapse_to: Annotated[str, Group.CATEGORIES] = ""
    """Category as which all categories are scored, such as bird; the vocabulary may then be any."""
    seen: Annotated[tuple[str, ...] | None, Group.CATEGORIES] = None
    """Categories of the data set that training knew; none: all but those that it left out."""
    baseline: Annotated[bool, Group.NETWORK] = True
    """Evaluate MaskCLIP, which needs no training, beside the model."""
    maskclip: Annotated[str, Group.NETWORK] = ""
    """ARCHITECTURE:WEIGHTS of MaskCLIP; empty: the model's own CLIP."""
    upright: Annotated[bool, Group.CORPUS] = False
    """Annotations belong to images turned upright by their EXIF orientation, not as they are
    stored."""
    limit: Annotated[NotNegative, Group.MAIN] = 0
    """Evaluate only so many images, the first ones; 0: all."""

    @model_validator(mode="before")
    @classmethod
    def _apply_recipe(cls, given: Any) -> Any:
        return with_recipe("evaluation", given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if self.classes and (not self.vocabulary or self.collapse_to):
            raise ConfigError(
                f"classes is {self.classes!r}, which says what the vocabulary's categories are in"
                " the data set: give a vocabulary with it, and no collapse_to."
            )
        return self


class CheckpointOptions(StoreOptions):
    """Which model, and where artifacts are."""

    checkpoint: Annotated[str, Group.MAIN] = ""
    """Key of a training, or name or file of weights; empty: the latest training."""


class EvaluateOptions(EvaluationSettings, CheckpointOptions):
    """What `zutis evaluate` takes."""


class EvaluateParameters(CheckpointOptions):
    """What the flow evaluate-zutis takes."""

    subject: ClassVar[str] = "flow evaluate-zutis"

    evaluation: Annotated[EvaluationSettings, Group.MAIN]
    """Data set to evaluate on, and how."""


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
