"""Evaluation sets: images with their ground truth, and the list of categories.

Files are read on demand: an `EvaluationSet` of 20,000 images opens without touching an image, and
it can be pickled for worker processes.

Dimensions:
    h, w  rows, columns of an image as annotated
    k     categories, without the background
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.artifacts.fingerprints import canonical_json
from storage.errors.exceptions import CorpusError, ImageRejected
from storage.files.filesystems import display
from storage.files.user_files import IMAGE, read_uri
from storage.images.decoding import decode
from storage.images.pillow_warnings import noted_warnings

IGNORE: Final = 65_535
"""Label of ignored pixels, which don't count in scores."""

LabelMap = NDArray[np.uint16]
Scoring = Literal["standard", "imagenet-s"]


class Rle(TypedDict):
    """A mask in COCO's compressed run lengths, column by column."""

    size: list[int]  # h, w
    counts: str


@dataclass(frozen=True, kw_only=True)
class InstanceAnnotation:
    """One annotated object, or one crowd of them."""

    category: int
    """1..k: index into `EvaluationSet.categories` plus one."""
    rle: Rle
    is_crowd: bool
    area: float
    """Pixels, as the annotations have it: COCO's "small", "medium" and "large" go by this."""


class GroundTruth(Protocol):
    """The annotations of one image; each reader implements it."""

    @property
    def size(self) -> tuple[int, int]:
        """h, w."""

    def labels(self) -> LabelMap | None:
        """As `EvaluationImage.labels`."""

    def instances(self) -> list[InstanceAnnotation] | None:
        """As `EvaluationImage.instances`."""

    def digest(self) -> str:
        """sha256 of what `labels` and `instances` follow from."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FramedImage:
    """An image in the frame of its annotations.

    Attributes:
        pixels: uint8 `[h, w, 3]`, RGB.
        frame_chosen: the other frame has the annotations' size too, with other pixels.
        sha256: of the file's bytes, in hex: its image_id in a corpus.
    """

    pixels: NDArray[np.uint8]
    frame_chosen: bool
    sha256: str


@dataclass(frozen=True, kw_only=True)
class EvaluationImage:
    """One image and its ground truth.

    Attributes:
        image_id: unique in the set; COCO's own where there is one.
        name: file name for people, relative to the set's folder of images.
        uri: local path or fsspec URI of the image.
        ground_truth: its labels and instances, as the annotations have them.
    """

    image_id: int
    name: str
    uri: str
    ground_truth: GroundTruth = field(repr=False)

    @property
    def height(self) -> int:
        """h, of the annotations."""
        return self.ground_truth.size[0]

    @property
    def width(self) -> int:
        """w, of the annotations."""
        return self.ground_truth.size[1]

    def read(self, *, upright: bool = False) -> NDArray[np.uint8]:
        """The image's pixels, in the frame of the annotations: see `read_in_frame`."""
        return self.read_in_frame(upright=upright).pixels

    def read_in_frame(self, *, upright: bool = False) -> FramedImage:
        """The image's pixels in the frame of the annotations, and whether that was a choice.

        Annotations refer to the image as it is stored, without regard to an EXIF orientation:
        that is COCO's convention, and a label map's. An image whose size fits only when it is
        turned upright is turned. Where both sizes fit (upside down, mirrored, or square) the
        sizes decide nothing.

        Args:
            upright: the data was annotated on upright images, which are then preferred.

        Raises:
            CorpusError: the image can't be decoded, or has another size than its annotations.
            StorageError: the file can't be read.
        """
        data = read_uri(self.uri, IMAGE)
        try:
            decoded = decode(data, min_side=1)
        except ImageRejected as rejected:
            raise CorpusError(
                f"The image {display(self.uri)} can't be used ({rejected}); download or write it "
                f"again."
            ) from rejected
        turned = np.array(decoded.image)
        stored = np.array(_as_stored(data)) if decoded.turned else turned
        frames = (turned, stored) if upright else (stored, turned)
        fitting = [frame for frame in frames if frame.shape[:2] == self.ground_truth.size]
        if not fitting:
            height, width = turned.shape[:2]
            raise CorpusError(
                f"The image {display(self.uri)} has {height} x {width} pixels (rows x columns) "
                f"and its annotations {self.height} x {self.width}; they don't belong together: "
                "get both from one release of the data."
            )
        return FramedImage(
            pixels=fitting[0],
            frame_chosen=len(fitting) == 2 and not np.array_equal(turned, stored),
            sha256=hashlib.sha256(data).hexdigest(),
        )

    def labels(self) -> LabelMap | None:
        """The semantic ground truth.

        Returns:
            uint16 `[h, w]`: 0 background, 1..k categories, 65,535 ignored pixels. None if
            the set has no semantic ground truth.

        Raises:
            CorpusError: a label map is damaged or has values that are no categories.
        """
        return self.ground_truth.labels()

    def instances(self) -> list[InstanceAnnotation] | None:
        """The annotated objects, in the annotations' order; None if the set has none at all."""
        return self.ground_truth.instances()


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Images, and the categories of their ground truth.

    Attributes:
        name: such as `coco2017-val`.
        categories: k names, without the background; labels are positions from 1.
        images: in the order in which they are evaluated.
        category_ids: the categories' numbers in the set's own annotations, in the order of
            `categories`, for results that others' tools read; empty where they are the labels.
        scoring: `imagenet-s` has rules of its own; see `storage.evaluation_sets.imagenet_s`.
        ignore: label of ignored pixels.
        skipped: annotations that were left out since they are faulty, and why.
        notes: sentences for users on how ambiguous data was read.
    """

    name: str
    categories: tuple[str, ...]
    images: Sequence[EvaluationImage] = field(repr=False)
    scoring: Scoring = "standard"
    ignore: int = IGNORE
    category_ids: tuple[int, ...] = ()
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def own_id(self, label: int) -> int:
        """The number of label 1..k in the set's own annotations."""
        return self.category_ids[label - 1] if self.category_ids else label

    def digest(self) -> str:
        """sha256 of everything that scores depend on; equal for every location of the data.

        Covers names, annotations, and the list of images with their sizes, but not the images'
        pixels. Label maps are read for it, images are not.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        sha = hashlib.sha256()
        facts: list[object] = [self.name, self.categories, self.scoring]
        if self.category_ids:  # published results are numbered by them
            facts.append(self.category_ids)
        if self.skipped:  # scores are not of the whole file
            facts.append({"skipped": self.skipped})
        sha.update(canonical_json(facts).encode())
        for image in self.images:
            known = image.ground_truth
            facts = [image.image_id, image.name, *known.size, known.digest()]
            sha.update(canonical_json(facts).encode())
        return sha.hexdigest()


def _as_stored(data: bytes) -> Image.Image:
    with noted_warnings(), Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")
