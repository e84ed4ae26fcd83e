"""The settings of `zutis export`."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator

from flows.settings.options import Group
from flows.settings.shared import StoreOptions
from flows.settings.value_types import Seed, Share

FormatName = Literal[
    "coco",
    "yolo-seg",
    "voc",
    "png",
    "parquet",
    "hf",
    "cvat",
    "label-studio",
    "labelme",
    "fiftyone",
]

_SPLIT: Final = re.compile(r"([a-z][a-z0-9_]{0,31})=(0?\.[0-9]{1,12}|1|1\.0{1,12})")
_WHOLE: Final = 1e-6


def shares_of(text: str) -> dict[str, float]:
    """The shares of splits, as given: `train=0.9,val=0.1`; empty: `train` alone.

    Raises:
        ValueError: it has another form, a name comes twice, or the shares don't make up 1.
    """
    if not text:
        return {"train": 1.0}
    shares: dict[str, float] = {}
    for part in text.split(","):
        form = _SPLIT.fullmatch(part.strip())
        if form is None or form[1] in shares or not float(form[2]) > 0:
            raise ValueError(
                "give splits with their shares, such as train=0.9,val=0.1: names of small letters,"
                " each once, and shares above 0"
            )
        shares[form[1]] = float(form[2])
    if not math.isclose(sum(shares.values()), 1, abs_tol=_WHOLE):
        raise ValueError(f"the shares make up {sum(shares.values()):g}, and have to make up 1")
    return shares


def _checked(text: str) -> str:
    shares_of(text)
    return text


class ExportOptions(StoreOptions):
    """What `zutis export` takes."""

    subject: ClassVar[str] = "export"

    build: Annotated[str, Group.MAIN] = ""
    """Key of a build's data set, or its beginning; empty or latest: the latest build's."""
    format: Annotated[FormatName, Group.MAIN]
    """Format of the files."""
    out: Annotated[Path, Group.MAIN]
    """Folder for them; it appears when all is written."""
    split: Annotated[str, AfterValidator(_checked), Group.MAIN] = ""
    """Splits with their shares, such as train=0.9,val=0.1; empty: train alone. Near-duplicates stay
    together where the build has looked for them; each category has its share in each split."""
    min_quality: Annotated[Share, Group.MAIN] = 0.0
    """Least quality of a label, 0 to 1; what has less, or none, is left out."""

    images: Annotated[Literal["copy", "link", "paths"], Group.OUTPUT] = "copy"
    """Copy images, link them to the files that they were built from, or write these files' paths;
    images that are no such file are copied."""
    masks: Annotated[Literal["auto", "polygons", "rle"], Group.OUTPUT] = "auto"
    """Masks as polygons or as run lengths (pixels), where the format has both; auto: what it is
    most often read with."""
    ids: Annotated[Literal["build", "coco"], Group.OUTPUT] = "build"
    """Ids of images and categories: counted by the build, or those of COCO, from its JSON file or
    file names and from the vocabulary."""
    overwrite: Annotated[bool, Group.OUTPUT] = False
    """Replace an older export in the folder."""
    seed: Annotated[Seed, Group.ADVANCED] = 0
    """Seed of the splits."""
