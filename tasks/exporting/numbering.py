"""Ids of images and categories in an export: counted, or COCO's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from storage.errors.exceptions import ConfigError
from storage.errors.sentences import listed
from storage.files.filesystems import display
from storage.vocabularies.category import Category
from tasks.exporting.exported import ExportedCategory
from tasks.prediction.image_ids import ids_of_corpus

_COCO_NAME = re.compile(r"(?:COCO_[a-z]+[0-9]{4}_)?([0-9]{12})")
_NAMED = 3


def categories_of(vocabulary: Mapping[int, Category], *, own_ids: bool) -> list[ExportedCategory]:
    """The categories by their labels; with `own_ids` numbered as their data set does.

    Raises:
        ConfigError: some have no id of their own that is a whole number above 0, or two the same.
    """
    found = []
    for label, category in sorted(vocabulary.items()):
        given = category.external_id
        external = "" if given is None else str(given)
        number = _number(external) if own_ids else label
        if number is None:
            raise ConfigError(
                f"The category {category.name!r} has no id of its own that is a whole number above "
                "0: write ids into the vocabulary, or leave --ids coco out."
            )
        found.append(ExportedCategory(label, number, category.name, external))
    if len({each.number for each in found}) < len(found):
        raise ConfigError(
            "Two categories of the vocabulary have the same id: correct it, or leave --ids coco"
            " out."
        )
    return found


def counted(image_ids: Sequence[str]) -> dict[str, int]:
    """Numbers from 1 on in the order of the image_ids."""
    return {image_id: number for number, image_id in enumerate(sorted(image_ids), start=1)}


def coco_numbers(places: Mapping[str, tuple[str, str]], corpus: Sequence[str]) -> dict[str, int]:
    """COCO's ids of images: of the corpus's COCO files, else of file names such as COCO's, of
    twelve digits.

    Args:
        places: URI and member of each image's source, by image_id.
        corpus: as the build was given it.

    Raises:
        ConfigError: an image has no such id, or two the same.
        CorpusError: an image is not in the corpus's file, or shares its id with another.
        StorageError: the corpus's file can't be read.
    """
    ids = ids_of_corpus(corpus)
    if ids is not None:
        return {image_id: ids.take(*place) for image_id, place in sorted(places.items())}
    found = {image_id: _number_in(member or uri) for image_id, (uri, member) in places.items()}
    lacking = [display(places[image_id][0]) for image_id, number in found.items() if not number]
    if lacking:
        raise ConfigError(
            f"{len(lacking):,} of {len(found):,} images have no id of COCO's, such as "
            f"{listed(lacking, _NAMED)}: build from COCO's JSON file, or leave --ids coco out."
        )
    numbers = {image_id: number for image_id, number in found.items() if number}
    if len(set(numbers.values())) < len(numbers):
        raise ConfigError("Two images have the same id of COCO's: leave --ids coco out.")
    return numbers


def _number_in(path: str) -> int | None:
    form = _COCO_NAME.fullmatch(PurePosixPath(path).stem)
    return int(form[1]) if form else None


def _number(external: str) -> int | None:
    return int(external) if re.fullmatch("[1-9][0-9]{0,9}", external) else None
