"""The settings of commands by which people decide about labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from flows.settings.options import Group
from flows.settings.shared import DeviceOption, StoreOptions
from flows.settings.value_types import NotNegative, Seed, Texts


class WhoOption(StoreOptions):
    """Who decides."""

    who: Annotated[str, Field(max_length=200), Group.MAIN] = ""
    """Your name in the decisions; empty: none."""


class DecidingOptions(StoreOptions):
    """A build, and the file of what is decided about its labels."""

    build: Annotated[str, Group.MAIN] = ""
    """Key of a build's data set, or its beginning; empty or latest: the latest build's."""
    decisions: Annotated[Path, Group.MAIN] = Path("decisions.jsonl")
    """File of decisions."""


class ReviewOptions(DecidingOptions, WhoOption, DeviceOption):
    """What `zutis review` takes."""

    subject: ClassVar[str] = "review"

    port: Annotated[int, Field(ge=0, le=65_535), Group.MAIN] = 4280
    """Port of this machine's loopback that the page is served on; 0: a free one."""
    open: Annotated[bool, Group.MAIN] = False
    """Open the page in a browser."""

    sample: Annotated[NotNegative, Group.DECISIONS] = 0
    """Labels of each category to look at as a random sample, which estimates how many are right;
    0: all labels."""
    category: Annotated[Texts, Group.DECISIONS] = ()
    """Only labels of this category; may be repeated."""
    seed: Annotated[Seed, Group.DECISIONS] = 0
    """Seed of the random sample."""

    clip: Annotated[str, Group.NETWORK] = ""
    """ARCHITECTURE:WEIGHTS that reads what is searched for; empty: the build's."""


class ApplyOptions(DecidingOptions):
    """What `zutis decisions apply` takes."""

    subject: ClassVar[str] = "decisions"

    dry_run: Annotated[bool, Group.MAIN] = False
    """Say what would change, and write nothing."""
    json_: Annotated[bool, Group.OUTPUT] = False
    """Print everything that would change as JSON, in place of a table."""


class ImportOptions(DecidingOptions, WhoOption):
    """What `zutis import-labels` takes."""

    subject: ClassVar[str] = "import"

    file: Annotated[str, Field(min_length=1), Group.MAIN]
    """Corrected labels: COCO's JSON, CVAT's XML for images 1.1, or Label Studio's JSON."""
    missing: Annotated[Literal["keep", "reject"], Group.DECISIONS] = "keep"
    """A label whose image the file has, without an object for it: keep it, or reject it."""
    unchanged: Annotated[Literal["keep", "accept"], Group.DECISIONS] = "keep"
    """A label that is the same in the file: keep it undecided, or accept it."""
