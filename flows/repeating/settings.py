"""The settings of commands that take up a build again."""

from __future__ import annotations

from typing import Annotated, ClassVar

from flows.settings.options import Group
from flows.settings.shared import DeviceOption, StoreOptions


class RetryOptions(DeviceOption, StoreOptions):
    """What `zutis retry` takes."""

    subject: ClassVar[str] = "retry"

    build: Annotated[str, Group.MAIN] = ""
    """Key of a build's data set, or its beginning; empty or latest: the latest build's."""
