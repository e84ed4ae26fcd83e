"""The settings of `zutis predict` and `zutis search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from flows.settings.options import Group
from flows.settings.shared import (
    DeviceOption,
    DeviceOptions,
    InstanceOptions,
    NetworkOptions,
    SelectionOptions,
    StoreOptions,
)
from flows.settings.value_types import AtLeastOne, Share, Texts


class PredictOptions(
    NetworkOptions, InstanceOptions, SelectionOptions, DeviceOptions, StoreOptions
):
    """What `zutis predict` takes."""

    subject: ClassVar[str] = "prediction"

    images: Annotated[Texts, Field(min_length=1), Group.MAIN]
    """Images, folders, patterns such as 'photos/*.jpg', tars, tables, lists, COCO JSON."""
    checkpoint: Annotated[str, Group.MAIN]
    """Key of a training, its beginning, or latest; a folder or file; a name of `zutis weights
    list`; ARCH:random:SEED; or maskclip: CLIP without training."""
    out: Annotated[Path, Group.MAIN]
    """Folder for the predictions."""
    categories: Annotated[str, Group.MAIN] = ""
    """Categories separated by commas, such as "zebra,red kite"; empty: the checkpoint's."""
    vocabulary: Annotated[str, Group.MAIN] = ""
    """Name or path of a vocabulary, instead of --categories."""
    min_score: Annotated[Share, Group.MAIN] = 0.5
    """Least score of an instance that is kept."""

    overwrite: Annotated[bool, Group.OUTPUT] = False
    """Replace earlier predictions in the folder."""
    image_ids: Annotated[str, Group.OUTPUT] = ""
    """COCO JSON whose image ids are written, to score against it; empty: the ids of the images'
    own COCO JSON, or 1, 2, 3 …"""

    batch_size: Annotated[AtLeastOne, Group.MACHINE] = 1
    """Images in memory at a time."""


class SearchOptions(DeviceOption, StoreOptions):
    """What `zutis search` takes."""

    subject: ClassVar[str] = "search"

    text: Annotated[str, Group.MAIN]
    """Words to search for."""
    top: Annotated[AtLeastOne, Group.MAIN] = 20
    """Number of images."""
    index_key: Annotated[str, Group.MAIN] = ""
    """Key of an index; empty: the latest build's."""
    clip: Annotated[str, Group.NETWORK] = ""
    """ARCHITECTURE:WEIGHTS that reads the text; empty: the model that made the index."""
