"""The settings of commands that look at builds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from flows.settings.build import DEFAULT_CLIP
from flows.settings.options import Group
from flows.settings.shared import DeviceOption, StoreOptions
from flows.settings.value_types import IndexClipName, NotNegative, VocabularyName
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


class VocabularyCheckOptions(DeviceOption):
    """What `zutis vocabulary check` takes."""

    subject: ClassVar[str] = "vocabulary check"

    vocabulary: Annotated[VocabularyName, Group.MAIN]
    """Name or path of a vocabulary."""
    rivals: Annotated[NotNegative, Group.MAIN] = 10
    """Pairs of categories with the most alike texts that are shown; 0: no text is embedded."""
    clip: Annotated[IndexClipName, Group.NETWORK] = DEFAULT_CLIP
    """CLIP or SigLIP that reads the texts; best the one of the build."""
