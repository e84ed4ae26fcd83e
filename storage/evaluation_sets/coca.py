"""CoCA (Zhang et al. 2020): 1,295 images of 80 categories, one category an image.

    coca/
      image/CATEGORY/NAME.jpg …
      binary/CATEGORY/NAME.png …    255 the objects of the category, 0 all else

Labels are positions in the reference's list of the folders' names (`datasets/coca.py`), capitals
first. The reference takes 255 alone for the object and would count other values as labels of other
categories; here everything from 128 on is the object.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from storage.annotations.benchmark import Benchmark, RequiredPath
from storage.annotations.category_names import shipped_names
from storage.annotations.evaluation_set import EvaluationSet
from storage.annotations.label_maps import (
    MaskCoding,
    labelled_image,
    paired_files,
)
from storage.errors.exceptions import CorpusError


def open_coca(folder: Path) -> EvaluationSet:
    """CoCA; `folder` as in the module's docstring.

    Raises:
        CorpusError: images and masks don't match, or a folder is none of the categories.
    """
    images_folder, masks_folder = folder / "image", folder / "binary"
    names = shipped_names("coca")
    labels = {name: label for label, name in enumerate(names, 1)}
    pairs = paired_files(images_folder, masks_folder, "coca")
    unknown = sorted({mask.parent for *_, mask in pairs if mask.parent.name not in labels})
    if unknown:
        raise CorpusError(
            f"CoCA has {len(unknown):,} folders that are none of its {len(names)} categories"
            f" (first: {unknown[0]}); remove or rename them."
        )
    images = [
        labelled_image(
            number, str(image.relative_to(images_folder)), image, mask,
            MaskCoding(labels[mask.parent.name]),
        )
        for number, (_, image, mask) in enumerate(pairs, 1)
    ]  # fmt: skip
    return EvaluationSet(name="coca", categories=names, images=tuple(images))


COCA: Final = Benchmark(
    name="coca",
    what="CoCA: 80 categories, semantic",
    folders=("coca", "CoCA"),
    requires=(RequiredPath("image", files=1_295), RequiredPath("binary", files=1_295)),
    images=1_295,
    sources=("http://zhaozhang.net/coca.html",),
    reader=open_coca,
)
