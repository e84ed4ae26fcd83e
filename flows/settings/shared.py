"""Options that several commands have, with one meaning everywhere."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from flows.settings.options import Group, Settings
from flows.settings.value_types import AtLeastZero, DeviceName, Positive, Precision, Share, Texts

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


class CorpusOptions(Settings):
    """Which images of a corpus are taken."""

    include: Annotated[Texts, Group.CORPUS] = ()
    """Take only images that match a pattern such as 'train/*.jpg', relative to the corpus; may be
    repeated."""
    exclude: Annotated[Texts, Group.CORPUS] = ()
    """Leave out what matches a pattern such as 'thumbnails/*'; may be repeated."""
    uri_column: Annotated[str, Group.CORPUS] = ""
    """Column of a table that holds the images' addresses; empty: one of the usual names."""


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
