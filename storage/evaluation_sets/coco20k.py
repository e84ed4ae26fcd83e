"""COCO-20K (Vo et al. 2020): 19,817 images of COCO train2014, the list that LOST published.

    coco/
      annotations/instances_train2014.json
      train2014/COCO_train2014_000000000009.jpg …
      coco_20k_filenames.txt                        a file name a line

The reference (`datasets/coco20k.py`) takes an image's id from the digits at the end of its file
name, and scores instances of all 80 categories, crowds as COCO does. The semantic ground truth is
as that of COCO 2017 val.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from storage.annotations.benchmark import Benchmark, RequiredPath, read_list
from storage.annotations.evaluation_set import EvaluationSet
from storage.errors.exceptions import CorpusError
from storage.evaluation_sets.coco import open_coco_layout

_ANNOTATIONS: Final = "annotations/instances_train2014.json"
_LIST: Final = "coco_20k_filenames.txt"
_ID: Final = re.compile(r"(?<![0-9])([0-9]{1,18})\.jpe?g$", re.IGNORECASE)


def open_coco20k(folder: Path) -> EvaluationSet:
    """COCO-20K; `folder` as in the module's docstring.

    Raises:
        CorpusError: as `open_coco_layout`, and for a list that can't be read.
    """
    wanted = _image_ids(folder / _LIST)
    return open_coco_layout("coco20k", folder / _ANNOTATIONS, folder / "train2014", wanted)


def _image_ids(path: Path) -> frozenset[int]:
    names = read_list(path).split()
    found = [_ID.search(name) for name in names]
    bad = [name for name, match in zip(names, found, strict=True) if match is None]
    if bad or not names:
        raise CorpusError(
            f"The list {path} has {len(bad):,} lines of {len(names):,} that are no file names of"
            f" COCO's images; download it again."
        )
    return frozenset(int(match[1]) for match in found if match)


COCO20K: Final = Benchmark(
    name="coco20k",
    what="COCO-20K: 80 categories, instances (and semantic)",
    folders=("coco", "coco20k", "coco2014"),
    requires=(
        RequiredPath(_ANNOTATIONS),
        RequiredPath("train2014", files=19_817),
        RequiredPath(_LIST),
    ),
    images=19_817,
    sources=(
        "http://images.cocodataset.org/zips/train2014.zip",
        "http://images.cocodataset.org/annotations/annotations_trainval2014.zip",
        "https://github.com/valeoai/LOST/blob/master/datasets/coco_20k_filenames.txt",
    ),
    reader=open_coco20k,
)
