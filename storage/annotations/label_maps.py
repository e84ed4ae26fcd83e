"""Label maps as ground truth, in files beside the images; users' own data among them.

Own data, as `folder:IMAGES+LABELS+NAMES`:

    IMAGES/a.jpg, IMAGES/more/b.png …
    LABELS/a.png, LABELS/more/b.png …   grey or palette, 8 or 16 bits, as large as the image
    NAMES                               a vocabulary: one name a line, or YAML

0 is the background, 1..k are the names in their order, and the highest value of the map's depth
(255 with 8 bits, 65,535 with 16) is ignored. Without NAMES, it is `names.txt` in LABELS or
beside it.

With one name, maps that have 0 and the highest value and nowhere a 1 are binary masks, as many
tools write them: the highest value is the object then, and the set's `notes` mention it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.annotations.evaluation_set import (
    IGNORE,
    EvaluationImage,
    EvaluationSet,
    LabelMap,
)
from storage.artifacts.fingerprints import canonical_json
from storage.errors.exceptions import ConfigError, CorpusError
from storage.files.file_kinds import is_image
from storage.files.filesystems import display, local_uri
from storage.files.user_files import IMAGE, is_file, is_folder, read_uri
from storage.images.pillow_warnings import noted_warnings
from storage.vocabularies.vocabulary import load_vocabulary

_NAMES_FILE: Final = "names.txt"
_FORMATS: Final = ("PNG", "TIFF", "BMP")  # nothing that loses values, as JPEG does


class Coding(Protocol):
    """The mapping from a file's pixel values to labels."""

    def labels(self, image: Image.Image) -> LabelMap:
        """uint16 `[h, w]`, as `EvaluationImage.labels`.

        Raises:
            ValueError: the file is of another kind, or has values without a label.
        """

    def facts(self) -> list[Any]:
        """The facts that decide the labels, for digests."""


@dataclass(frozen=True, kw_only=True)
class LabelCoding:
    """Each value is a label.

    Attributes:
        values: turns the opened file into integers `[h, w]`; raises ValueError for a file of
            another kind.
        num_categories: k; values 1..k are labels as they are.
        ignored: the value of ignored pixels.
    """

    values: Callable[[Image.Image], NDArray[Any]]
    num_categories: int
    ignored: int

    def labels(self, image: Image.Image) -> LabelMap:
        """As `Coding.labels`."""
        values = self.values(image)
        ignored = values == self.ignored
        unknown = np.unique(values[(values > self.num_categories) & ~ignored])
        if unknown.size:
            listed = ", ".join(map(str, unknown[:5]))
            binary = "; a mask of one category has 0, and 1 or 255"
            raise ValueError(
                f"it has labels that are none of the {self.num_categories} categories ({listed})"
                f"{binary if self.num_categories == 1 else ''}"
            )
        return np.where(ignored, IGNORE, values).astype(np.uint16)

    def facts(self) -> list[Any]:
        """As `Coding.facts`."""
        return [self.values.__name__, self.num_categories, self.ignored]


@dataclass(frozen=True)
class BinaryCoding:
    """The highest value of the map's depth is the only category, all else background."""

    def labels(self, image: Image.Image) -> LabelMap:
        """As `Coding.labels`."""
        return np.where(own_values(image) == IGNORE, 1, 0).astype(np.uint16)

    def facts(self) -> list[Any]:
        """As `Coding.facts`."""
        return ["binary"]


@dataclass(frozen=True)
class MaskCoding:
    """Brightness of half the range and more (128..255) is the object, all else background.

    Attributes:
        label: of the object.
    """

    label: int

    def labels(self, image: Image.Image) -> LabelMap:
        """As `Coding.labels`."""
        return np.where(np.asarray(image.convert("L")) >= 128, self.label, 0).astype(np.uint16)

    def facts(self) -> list[Any]:
        """As `Coding.facts`."""
        return ["mask", self.label]


@dataclass(frozen=True)
class LabelMapGroundTruth:
    """A label map on disk, which is read on demand."""

    uri: str
    coding: Coding

    @cached_property
    def size(self) -> tuple[int, int]:
        """h, w; from the file's header."""
        with self._open() as image:
            return image.height, image.width

    def labels(self) -> LabelMap:
        """The label map.

        Raises:
            CorpusError: the file is damaged, of another kind, or has values that are no labels.
        """
        with self._open() as image:
            try:
                return self.coding.labels(image)
            except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
                raise self._unusable(error) from error

    def instances(self) -> None:
        """None: a label map has no instances."""
        return

    def digest(self) -> str:
        """sha256 of the file's bytes and of how they are read."""
        contents = sha256(read_uri(self.uri, IMAGE)).hexdigest()
        return sha256(canonical_json([contents, self.coding.facts()]).encode()).hexdigest()

    def _open(self) -> Image.Image:
        data = read_uri(self.uri, IMAGE)
        try:
            with noted_warnings():
                return Image.open(io.BytesIO(data), formats=_FORMATS)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> CorpusError:
        what = (
            f"it is damaged or no {', '.join(_FORMATS)} file"
            if isinstance(error, OSError)
            else str(error)
        )
        return CorpusError(
            f"The label map {display(self.uri)} can't be used: {what}; replace it by one that fits"
            f" its data set."
        )


def index_values(image: Image.Image) -> NDArray[Any]:
    """Grey values, or indices into the palette: VOC's colours are indices with a palette."""
    if image.mode not in ("L", "P", "1", "I", "I;16", "I;16B"):
        raise ValueError(f"its pixels are {image.mode} and not one number each")
    return np.asarray(image).astype(np.int64)


def paired_files(images: Path, labels: Path, name: str) -> list[tuple[str, Path, Path]]:
    """Images and label maps of the same name, with any extensions, in the order of names.

    Args:
        images: folder of the images, with folders in it or not.
        labels: folder of the label maps.
        name: of the data set, for messages.

    Returns:
        (name without ending, image, label map), all of both folders.

    Raises:
        CorpusError: no image at all, or one without label map or the other way round.
    """
    by_name, labels_by_name = _files(images, name), _files(labels, name)
    for has, lacks, what, where in (
        (by_name, labels_by_name, "images have no label map", labels),
        (labels_by_name, by_name, "label maps have no image", images),
    ):
        if unpaired := sorted(has.keys() - lacks.keys()):
            raise CorpusError(
                f"The data set {name}: {len(unpaired):,} of {len(has):,} {what} of their name in"
                f" {where} (first: {display(str(has[unpaired[0]]))}); complete the folder."
            )
    if not by_name:
        raise CorpusError(f"The data set {name} has no image in {images}.")
    return [(key, by_name[key], labels_by_name[key]) for key in sorted(by_name)]


def labelled_image(
    image_id: int, name: str, image: Path, labels: Path, coding: Coding
) -> EvaluationImage:
    """An image with the label map in the file `labels` as its ground truth."""
    ground_truth = LabelMapGroundTruth(local_uri(str(labels)), coding)
    uri = local_uri(str(image))
    return EvaluationImage(image_id=image_id, name=name, uri=uri, ground_truth=ground_truth)


def require_files(name: str, files: Mapping[str, list[Path]]) -> None:
    """Check that all files exist.

    Args:
        name: of the data set.
        files: paths by kind, such as "images".

    Raises:
        CorpusError: some are missing; the message has their number.
    """
    for what, paths in files.items():
        absent = [path for path in paths if not is_file(path)]
        if absent:
            raise CorpusError(
                f"The data set {name}: {len(absent):,} of {len(paths):,} {what} are missing (first:"
                f" {display(str(absent[0]))}); unpack its archive again."
            )


def open_folders(images: Path, labels: Path, names: Path | None = None) -> EvaluationSet:
    """Own data: images, label maps and names, laid out as in the module's docstring.

    Raises:
        ConfigError: a folder does not exist, or there is no file of names.
        CorpusError: images and label maps don't match.
        VocabularyError: the names can't be used.
    """
    for folder in (images, labels):
        if not is_folder(folder):
            raise ConfigError(f"There is no folder {folder} to evaluate on.")
    categories = load_vocabulary(str(names or _names_file(labels))).names
    name = images.resolve().name
    pairs = paired_files(images, labels, name)
    coding: Coding = LabelCoding(values=own_values, num_categories=len(categories), ignored=IGNORE)
    binary = len(categories) == 1 and _are_binary([label for *_, label in pairs], coding)
    if binary:
        coding = BinaryCoding()
    return EvaluationSet(
        name=name,
        categories=categories,
        images=tuple(
            labelled_image(number, str(image.relative_to(images)), image, label, coding)
            for number, (_, image, label) in enumerate(pairs, 1)
        ),
        notes=(_binary_note(name, categories[0]),) if binary else (),
    )


def own_values(image: Image.Image) -> NDArray[Any]:
    """Values of a map of 8 or 16 bits, the highest of its depth as 65,535."""
    values = index_values(image)
    return values if image.mode.startswith("I") else np.where(values == 255, IGNORE, values)


def _are_binary(label_maps: list[Path], coding: Coding) -> bool:
    """Whether the highest value is there and the label nowhere; stops at the first label.

    A single map is not enough: one without the object may have only 0 and the ignored value.
    """
    marked = False
    for path in label_maps:
        found = LabelMapGroundTruth(local_uri(str(path)), coding).labels()
        if (found == 1).any():
            return False
        marked = marked or bool((found == IGNORE).any())
    return marked


def _binary_note(name: str, category: str) -> str:
    return (
        f"The label maps of {name} have no pixel of value 1, and pixels of their highest value"
        f" (255 with 8 bits): they are read as binary masks, in which that value is {category!r}"
        f" and not pixels that don't count; if it isn't so, write the objects as 1."
    )


def _names_file(labels: Path) -> Path:
    places = [labels / _NAMES_FILE, labels.parent / _NAMES_FILE]
    for place in places:
        if is_file(place):
            return place
    raise ConfigError(
        f"There is no list of names for the labels: {places[0]} and {places[1]} don't exist; write"
        f" one, a name a line, or say where it is: folder:IMAGES+LABELS+NAMES."
    )


def _files(folder: Path, name: str) -> dict[str, Path]:
    """Images by their path in the folder without ending."""
    found: dict[str, Path] = {}
    for path in _walk(folder):
        key = str(path.relative_to(folder).with_suffix(""))
        if key in found:
            raise CorpusError(
                f"The data set {name}: {found[key]} and {path.name} have the same name but for the"
                f" ending; remove one."
            )
        found[key] = path
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder, followlinks=True):
        yield from (Path(place, name) for name in names if is_image(name) and name[0] != ".")
