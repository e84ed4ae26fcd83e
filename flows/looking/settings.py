"""The settings of commands that look at builds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from flows.settings.options import Group
from flows.settings.shared import StoreOptions


class ReportOptions(StoreOptions):
    """What `zutis report` takes."""

    subject: ClassVar[str] = "report"

    build: Annotated[str, Group.MAIN] = ""
    """Key of a build's data set, or its beginning; empty or latest: the latest build's."""
    out: Annotated[Path | None, Group.MAIN] = None
    """File to write; none: STORE/reports/KEY.html."""
    open: Annotated[bool, Group.MAIN] = False
    """Open the page in a browser."""
