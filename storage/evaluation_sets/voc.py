"""PASCAL VOC 2012 (Everingham et al. 2010), the val set for segmentation: 1,449 images.

    VOCdevkit/VOC2012/
      ImageSets/Segmentation/val.txt     a name a line
      JPEGImages/2007_000033.jpg …
      SegmentationClass/2007_000033.png …

A label map is a palette PNG whose indices are the labels, 0 the background and 255 the objects'
borders and difficult objects, which are ignored. The names are those of NamedMask
(`datasets/voc2012.py`: "dining table", "potted plant", "tv/monitor"), in the order of the labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from storage.annotations.benchmark import Benchmark, RequiredPath, read_list
from storage.annotations.category_names import shipped_names
from storage.annotations.evaluation_set import EvaluationSet
from storage.annotations.label_maps import (
    LabelCoding,
    index_values,
    labelled_image,
    require_files,
)
from storage.errors.exceptions import CorpusError

_LIST: Final = "ImageSets/Segmentation/val.txt"


def open_voc2012_val(folder: Path) -> EvaluationSet:
    """VOC 2012 val; `folder` is `VOCdevkit/VOC2012`.

    Raises:
        CorpusError: the list is empty, or names files that are not there.
    """
    stems = list(dict.fromkeys(read_list(folder / _LIST).split()))
    if not stems:
        raise CorpusError(f"The list {folder / _LIST} is empty; unpack VOC 2012 again.")
    paths = [folder / f"JPEGImages/{stem}.jpg" for stem in stems]
    maps = [folder / f"SegmentationClass/{stem}.png" for stem in stems]
    require_files("voc2012-val", {"images": paths, "label maps": maps})
    names = shipped_names("voc2012")
    coding = LabelCoding(values=index_values, num_categories=len(names), ignored=255)
    images = [
        labelled_image(number, path.name, path, labels, coding)
        for number, (path, labels) in enumerate(zip(paths, maps, strict=True), 1)
    ]
    return EvaluationSet(name="voc2012-val", categories=names, images=tuple(images))


VOC2012_VAL: Final = Benchmark(
    name="voc2012-val",
    what="PASCAL VOC 2012 val: 20 categories, semantic",
    folders=("VOCdevkit/VOC2012", "VOC2012"),
    requires=(
        RequiredPath(_LIST),
        RequiredPath("JPEGImages", files=1_449),
        RequiredPath("SegmentationClass", files=1_449),
    ),
    images=1_449,
    sources=("http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",),
    reader=open_voc2012_val,
)
