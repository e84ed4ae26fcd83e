"""Options that several commands have, with one meaning everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from flows.settings.options import Group, Settings, values_for
from flows.settings.recipes import RecipeName
from flows.settings.value_types import (
    AtLeastZero,
    DeviceName,
    NotNegative,
    Positive,
    Precision,
    Share,
    Texts,
)

if TYPE_CHECKING:
    from tasks.prediction.segmenter import InstanceSettings

DEFAULT_STORE: Final = "zutis-store"


class StoreOptions(Settings):
    """Where artifacts are."""

    store: Annotated[str, Group.MAIN] = DEFAULT_STORE
    """Folder or URI of the artifact store."""


class DeviceOption(Settings):
    """What computes."""

    device: Annotated[DeviceName, Group.MACHINE] = "auto"
    """Device of the networks: auto, cpu, cuda or cuda:N."""


class DeviceOptions(DeviceOption):
    """What computes, and in which arithmetic."""

    precision: Annotated[Precision, Group.MACHINE] = "auto"
    """Arithmetic of the networks; auto: bfloat16 on a GPU, float32 elsewhere."""


class RecipeOption(Settings):
    """Settings of a published model."""

    recipe: Annotated[RecipeName, Group.MAIN] = ""
    """Published model whose settings hold for all that is not given; empty: the defaults."""


class NetworkOptions(Settings):
    """What a trained network is given."""

    clip: Annotated[str, Group.NETWORK] = ""
    """ARCHITECTURE:WEIGHTS that embeds the categories' names; empty: the CLIP that the model was
    trained from."""
    image_size: Annotated[NotNegative, Group.NETWORK] = 1024
    """Longer side that the network sees at most, pixels; 0: no limit."""


class SelectionOptions(Settings):
    """Which images of a corpus are taken."""

    include: Annotated[Texts, Group.CORPUS] = ()
    """Take only images that match a pattern such as 'train/*.jpg', relative to the corpus; may be
    repeated."""
    exclude: Annotated[Texts, Group.CORPUS] = ()
    """Leave out what matches a pattern such as 'thumbnails/*'; may be repeated."""
    uri_column: Annotated[str, Group.CORPUS] = ""
    """Column of a table that holds the images' addresses; empty: one of the usual names."""


class CorpusOptions(SelectionOptions):
    """A corpus, and which of its images are taken."""

    corpus: Annotated[Texts, Field(min_length=1), Group.MAIN]
    """Folder, images, tars, zips, table, list or COCO JSON file; path, URI or pattern; may be
    repeated."""


class InstanceOptions(Settings):
    """How instances are chosen from mask proposals."""

    threshold: Annotated[Share, Group.INSTANCES] = 0.5
    """Least value of a proposal inside its mask."""
    temperature: Annotated[Positive, Group.INSTANCES] = 5.0
    """Temperature of the cosine in an instance's score."""
    suppression: Annotated[Literal["hard", "linear", "gaussian", "none"], Group.INSTANCES] = "hard"
    """Suppression of overlapping masks of one category."""
    suppression_threshold: Annotated[Share, Group.INSTANCES] = 0.3
    """IoU that hard and linear suppression still allow."""
    sigma: Annotated[Positive, Group.INSTANCES] = 0.5
    """Width of gaussian suppression."""
    score_threshold: Annotated[AtLeastZero, Group.INSTANCES] = 0.001
    """Least score after suppression."""
    min_score: Annotated[Share, Group.INSTANCES] = 0.0
    """Least score of an instance that is kept."""

    @property
    def instances(self) -> InstanceSettings:
        from tasks.prediction.segmenter import InstanceSettings

        return InstanceSettings(**values_for(InstanceSettings, self))
