"""The settings of commands that take up a build again."""

from __future__ import annotations

from typing import Annotated, ClassVar

from flows.settings.options import Group
from flows.settings.shared import DeviceOption, StoreOptions
from flows.settings.value_types import Positive, VocabularyName


class RetryOptions(DeviceOption, StoreOptions):
    """What `zutis retry` takes."""

    subject: ClassVar[str] = "retry"

    build: Annotated[str, Group.MAIN] = ""
    """Key of a build's data set, or its beginning; empty or latest: the latest build's."""


class MergeOptions(StoreOptions):
    """What `zutis merge` takes."""

    subject: ClassVar[str] = "merge"

    first: Annotated[str, Group.MAIN]
    """Key of a data set, or its beginning; or latest. Its labels are kept where both are as
    good."""
    second: Annotated[str, Group.MAIN]
    """Key of another data set, or its beginning; or latest."""
    vocabulary: Annotated[VocabularyName, Group.MAIN]
    """Name or path of the vocabulary of the merged data set: categories are found by their names
    and synonyms."""
    name: Annotated[str, Group.SHARDS] = ""
    """What the shards are called; empty: as the vocabulary."""
    shard_mb: Annotated[Positive, Group.SHARDS] = 256.0
    """Megabytes a shard, about."""
