"""The settings of commands that look at builds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from flows.settings.options import Group
from flows.settings.shared import StoreOptions
from flows.upkeep.find_artifacts import LATEST


class ReportOptions(StoreOptions):
    """What `zutis report` takes."""

    subject: ClassVar[str] = "report"

    build: Annotated[str, Group.MAIN] = ""
    """Key of a build's data set, or its beginning; empty or latest: the latest build's."""
    out: Annotated[Path | None, Group.MAIN] = None
    """File to write; none: STORE/reports/KEY.html."""
    open: Annotated[bool, Group.MAIN] = False
    """Open the page in a browser."""


class DiffOptions(StoreOptions):
    """What `zutis diff` takes."""

    subject: ClassVar[str] = "diff"

    before: Annotated[str, Group.MAIN]
    """Key of the earlier build's data set, or its beginning; or latest."""
    after: Annotated[str, Group.MAIN] = LATEST
    """Key of the later build's data set, or its beginning; or latest."""
    page: Annotated[Path | None, Group.OUTPUT] = None
    """File for a page with both masks side by side."""
    json_: Annotated[bool, Group.OUTPUT] = False
    """Print everything that differs as JSON, in place of tables."""
