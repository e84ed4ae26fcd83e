"""CUB-200-2011 (Wah et al. 2011): the 5,794 test images of 200 kinds of birds.

    CUB_200_2011/
      classes.txt             `1 001.Black_footed_Albatross` …
      images.txt              `1 001.Black_footed_Albatross/Black_Footed_Albatross_0001….jpg` …
      train_test_split.txt    `1 0` …: image id, and 1 for training, 0 for test
      images/001.Black_footed_Albatross/….jpg
      segmentations/001.Black_footed_Albatross/….png

The segmentations are an archive of their own and may lie beside `CUB_200_2011/`, too. They are
grey: the share of five annotators that took a pixel for the bird. The majority, 128 and more of
255, is the bird here.

Two sets have the same images and masks: `cub200` has the 200 fine-grained names (the folders'
names without number and underscores), and `cub200-bird` the one high-level name "bird".
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from storage.annotations.benchmark import Benchmark, RequiredPath, read_list
from storage.annotations.evaluation_set import EvaluationSet
from storage.annotations.label_maps import (
    MaskCoding,
    labelled_image,
    require_files,
)
from storage.errors.exceptions import CorpusError

_SEGMENTATIONS: Final = RequiredPath("segmentations", elsewhere=("../segmentations",))
_TEST: Final = "0"
_NUMBER: Final = re.compile(r"[0-9]{1,18}")


def open_cub200(name: str, folder: Path) -> EvaluationSet:
    """The test images with fine-grained names, or as birds.

    Args:
        name: `cub200` or `cub200-bird`.
        folder: `CUB_200_2011`.

    Raises:
        CorpusError: the lists don't match one another or the files.
    """
    classes = _classes(folder / "classes.txt")
    listed = _test_images(folder)
    paths = [folder / "images" / relative for relative in listed.values()]
    masks_folder = _SEGMENTATIONS.find(folder) or folder / _SEGMENTATIONS.path
    masks = [
        masks_folder / PurePosixPath(relative).with_suffix(".png") for relative in listed.values()
    ]
    require_files(name, {"images": paths, "segmentations": masks})
    birds_only = name == "cub200-bird"
    images = [
        labelled_image(
            image_id,
            relative,
            path,
            mask,
            MaskCoding(1 if birds_only else _label(classes, relative)),
        )
        for (image_id, relative), path, mask in zip(listed.items(), paths, masks, strict=True)
    ]
    categories = ("bird",) if birds_only else tuple(map(_name, classes))
    return EvaluationSet(name=name, categories=categories, images=tuple(images))


def _classes(path: Path) -> dict[str, int]:
    """Folder to label; classes are numbered from 1 without gaps."""
    numbers = _numbered(path)
    if list(numbers) != list(range(1, len(numbers) + 1)):
        raise CorpusError(f"The classes of {path} are not numbered from 1; unpack CUB again.")
    return {folder: label for label, folder in numbers.items()}


def _test_images(folder: Path) -> dict[int, str]:
    """Image id to path below `images`, of the test set."""
    listed, split = _numbered(folder / "images.txt"), _numbered(folder / "train_test_split.txt")
    if listed.keys() != split.keys():
        differing = len(listed.keys() ^ split.keys())
        raise CorpusError(
            f"The lists images.txt and train_test_split.txt of {folder} differ in {differing:,}"
            f" images; unpack CUB again."
        )
    test = {image_id: path for image_id, path in listed.items() if split[image_id] == _TEST}
    if not test:
        raise CorpusError(f"The list {folder / 'train_test_split.txt'} has no test image.")
    return test


def _numbered(path: Path) -> dict[int, str]:
    """A file of lines `NUMBER TEXT`, in the order of the numbers."""
    rows = [line.split(maxsplit=1) for line in read_list(path).splitlines()]
    rows = [row for row in rows if row]
    bad = [row for row in rows if len(row) != 2 or not _NUMBER.fullmatch(row[0])]
    if bad:
        raise CorpusError(
            f"The list {path} has {len(bad):,} lines of {len(rows):,} that are no number and text;"
            f" unpack CUB again."
        )
    return {int(number): text.strip() for number, text in sorted(rows, key=lambda row: int(row[0]))}


def _label(classes: dict[str, int], path: str) -> int:
    folder = PurePosixPath(path).parent.name
    if folder not in classes:
        raise CorpusError(f"The image {path} of CUB is in no folder that classes.txt lists.")
    return classes[folder]


def _name(folder: str) -> str:
    """`001.Black_footed_Albatross` to "Black footed Albatross"."""
    return folder.partition(".")[2].replace("_", " ")


def _benchmark(name: str, what: str) -> Benchmark:
    return Benchmark(
        name=name,
        what=what,
        folders=("CUB_200_2011", "cub200/CUB_200_2011"),
        requires=(
            RequiredPath("classes.txt"),
            RequiredPath("images.txt"),
            RequiredPath("train_test_split.txt"),
            RequiredPath("images", files=11_788),
            _SEGMENTATIONS,
        ),
        images=5_794,
        sources=(
            "https://data.caltech.edu/records/65de6-vp158 (CUB_200_2011.tgz)",
            "https://data.caltech.edu/records/w9d68-gec53 (segmentations.tgz)",
        ),
        reader=partial(open_cub200, name),
    )


CUB200: Final = (
    _benchmark("cub200", "CUB-200-2011 test: 200 kinds of birds, semantic"),
    _benchmark("cub200-bird", 'the same images with the one name "bird", semantic'),
)
