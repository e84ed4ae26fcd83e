"""COCO 2017 val with semantic ground truth of COCO-Stuff (Caesar, Uijlings and Ferrari 2018).

    coco2017/
      val2017/000000000139.jpg …
      stuffthingmaps/val2017/000000000139.png …      where the archive is unpacked into that folder

A map's pixels are COCO-Stuff's ids less one, 255 for pixels without annotation
(github.com/nightrosa/cocostuff, `labels.md`): 0 to 90 are things, numbered as COCO numbers its 80
categories, with gaps; 91 to 181 are stuff. Here things are the 80 categories, stuff is background,
and 255 is ignored. Which object of several lies on top is as COCO-Stuff's authors painted them,
where `coco2017-val` goes by their areas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from storage.annotations.benchmark import Benchmark, RequiredPath
from storage.annotations.category_names import shipped_categories
from storage.annotations.evaluation_set import IGNORE, EvaluationSet, LabelMap
from storage.annotations.label_maps import index_values, labelled_image, require_files
from storage.errors.exceptions import CorpusError

_NAME: Final = "coco2017-val-stuff"
_FIRST_STUFF, _LAST_STUFF = 91, 181
_UNLABELLED: Final = 255
_IMAGES: Final = RequiredPath("val2017", files=5_000, elsewhere=("images/val2017",))
_MAPS: Final = RequiredPath(
    "stuffthingmaps/val2017",
    files=5_000,
    elsewhere=("stuffthingmaps_trainval2017/val2017", "annotations/val2017"),
)


@dataclass(frozen=True)
class StuffThingCoding:
    """Values of COCO-Stuff's maps as labels.

    Attributes:
        labels_by_id: COCO's `category_id` to label, 1..k.
    """

    labels_by_id: Mapping[int, int]

    def labels(self, image: Image.Image) -> LabelMap:
        """As `Coding.labels`."""
        table = np.full(256, -1, dtype=np.int64)
        for category_id, label in self.labels_by_id.items():
            table[category_id - 1] = label
        table[_FIRST_STUFF : _LAST_STUFF + 1] = 0
        table[_UNLABELLED] = IGNORE
        values = index_values(image)
        if values.max(initial=0) > 255:
            raise ValueError(f"it has the value {values.max()}, and COCO-Stuff's end at 255")
        labels = table[values]
        if (labels < 0).any():
            unknown = ", ".join(map(str, np.unique(values[labels < 0])[:5]))
            raise ValueError(f"it has values that are no id of COCO-Stuff less one ({unknown})")
        return np.asarray(labels, dtype=np.uint16)

    def facts(self) -> list[Any]:
        """As `Coding.facts`."""
        return ["stuffthingmaps", sorted(self.labels_by_id.items())]


def open_coco_stuff(folder: Path) -> EvaluationSet:
    """COCO 2017 val: 80 categories, semantic; `folder` as in the module's docstring.

    Raises:
        CorpusError: there is no image, or an image has no map.
    """
    images_folder, maps_folder = _IMAGES.find(folder), _MAPS.find(folder)
    if images_folder is None or maps_folder is None:
        raise CorpusError(f"The data set {_NAME} is not complete in {folder}; unpack it again.")
    paths = sorted(images_folder.glob("*.jpg"))
    if not paths:
        raise CorpusError(f"The data set {_NAME} has no image in {images_folder}.")
    maps = [maps_folder / f"{path.stem}.png" for path in paths]
    require_files(_NAME, {"label maps": maps})
    categories = shipped_categories("coco")
    ids = tuple(int(category.external_id or 0) for category in categories)
    coding = StuffThingCoding({category_id: label for label, category_id in enumerate(ids, 1)})
    images = [
        labelled_image(_image_id(path, number), path.name, path, labels, coding)
        for number, (path, labels) in enumerate(zip(paths, maps, strict=True), 1)
    ]
    return EvaluationSet(
        name=_NAME,
        categories=tuple(category.name for category in categories),
        images=tuple(images),
        category_ids=ids,
    )


def _image_id(path: Path, number: int) -> int:
    """COCO's own, which is the file's name."""
    return int(path.stem) if path.stem.isdecimal() else number


COCO2017_VAL_STUFF: Final = Benchmark(
    name=_NAME,
    what="COCO 2017 val: 80 categories, semantic labels of COCO-Stuff, stuff as background",
    folders=("coco2017", "coco", "coco_stuff164k"),
    requires=(_IMAGES, _MAPS),
    images=5_000,
    sources=(
        "http://images.cocodataset.org/zips/val2017.zip",
        "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
        "stuffthingmaps_trainval2017.zip (unpacked into stuffthingmaps/)",
    ),
    reader=open_coco_stuff,
)
