"""The settings of `zutis serve`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from flows.settings.options import Group, Settings
from flows.settings.value_types import AtLeastOne, Texts


class ServeOptions(Settings):
    """What `zutis serve` takes; `--set` gives the defaults of build-pseudolabels' parameters."""

    subject: ClassVar[str] = "service"

    host: Annotated[str | None, Group.MAIN] = None
    """Address that the server listens on; none: 127.0.0.1, or as Prefect is configured."""
    port: Annotated[int | None, Group.MAIN] = None
    """Port that the server listens on; none: 4200, or as Prefect is configured."""
    max_runs: Annotated[AtLeastOne, Group.MAIN] = 2
    """Runs at a time."""
    root: Annotated[Texts, Group.MAIN] = ()
    """Folder, or address such as s3://bucket/prefix: runs read and write nothing that lies under
    none of them; may be repeated; none: no limit."""
