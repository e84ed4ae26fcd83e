"""What users name as `--masks`, opened: masks by the names of images.

A file is COCO's JSON, CVAT's XML for images or Label Studio's JSON; its categories say nothing
here, since masks are named by retrieval. A folder has a PNG for each image, of the same name: one
that has a single value beside 0 is a mask, one of several values has an object of each but 255,
which data sets ignore.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from storage.artifacts.fingerprints import digest
from storage.corrections.reading import read_corrected
from storage.decisions.decision import DrawnMask
from storage.errors.exceptions import CorpusError
from storage.files.filesystems import display, is_local
from storage.files.user_files import (
    ANNOTATIONS,
    is_folder,
    iter_chunks,
    user_path,
)
from storage.given_embeddings.names import names_of, plain_name
from storage.given_masks.png_masks import image_name, masks_of_png


class AmbiguousNames(ValueError):  # noqa: N818 - told with the image's place
    """Several of the given masks go by an image's name."""


@dataclass(eq=False)
class GivenMasks:
    """Masks by the names of images.

    Attributes:
        place: as the user wrote it.
        digest: of the file's content, or of the names, sizes and times of a folder's files.
        images: how many images have an entry.
    """

    place: str
    digest: str
    images: int
    _entries: list[tuple[DrawnMask, ...] | Path] = field(repr=False)
    _by_name: dict[str, int] = field(repr=False)

    def entry(self, image_id: str, uri: str, member: str) -> int | None:
        """The number of an image's entry; None where it has none.

        Args:
            image_id: sha256 of the image's bytes, by which files may name it.
            uri, member: its place, see `storage.given_embeddings.names`.

        Raises:
            AmbiguousNames: its name is several entries'.
        """
        for name in (image_id, *names_of(uri, member)):
            number = self._by_name.get(name)
            if number == _SEVERAL:
                raise AmbiguousNames(name)
            if number is not None:
                return number
        return None

    def masks(self, number: int) -> tuple[DrawnMask, ...]:
        """The masks of an entry, the largest first; none of a PNG of zeros.

        Raises:
            ValueError: its PNG can't be read.
        """
        entry = self._entries[number]
        found = masks_of_png(entry) if isinstance(entry, Path) else entry
        return tuple(sorted(found, key=lambda mask: -_area(mask)))


_SEVERAL: Final = -1


def open_given_masks(place: str) -> GivenMasks:
    """Open a file or a folder of masks.

    Raises:
        CorpusError: it is none, or holds no mask.
        StorageError: it can't be read.
    """
    if is_local(place) and is_folder(folder := user_path(place)):
        return _of_folder(place, folder)
    hasher = hashlib.sha256()
    for chunk in iter_chunks(place, ANNOTATIONS):
        hasher.update(chunk)
    return _of_file(place, hasher.hexdigest())


@lru_cache(maxsize=2)  # parts ask one after the other, and files may have a gigabyte
def _of_file(place: str, content: str) -> GivenMasks:
    read = read_corrected(place)
    entries = [tuple(each.mask for each in image.objects) for image in read.images]
    if not any(entries):
        raise CorpusError(f"{display(place)} has no mask that can be used.")
    names = [image.names for image in read.images]
    return GivenMasks(place, content, len(entries), list(entries), _by_name(names))


def _of_folder(place: str, folder: Path) -> GivenMasks:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".png")
    if not files:
        raise CorpusError(
            f"{display(place)} has no masks: a folder has a PNG for each image, of the same name."
        )
    facts = []
    for path in files:
        status = path.stat()
        facts.append([str(path.relative_to(folder)), status.st_size, status.st_mtime_ns])
    names = [(image_name(path.relative_to(folder)),) for path in files]
    return GivenMasks(place, digest(facts), len(files), [*files], _by_name(names))


def _by_name(names: Iterable[Iterable[str]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for number, several in enumerate(names):
        for name in {plain_name(each) for each in several}:
            found[name] = _SEVERAL if name in found else number
    return found


def _area(mask: DrawnMask) -> int:
    from pycocotools import mask as coco_mask

    return int(coco_mask.area({"size": [mask.height, mask.width], "counts": mask.counts}))
