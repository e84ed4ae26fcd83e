"""Images, labels and categories as formats get them.

Dimensions:
    h, w  rows, columns of an image
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.images.masks import run_length_pixels
from tasks.packing.object_labels import painted


@dataclass(frozen=True)
class ExportedCategory:
    """A category.

    Attributes:
        label: its value in label maps, 1..k.
        number: its id in formats that have ids: the label, or the data set's own.
        name: as the vocabulary has it: any text.
        external_id: its id elsewhere; empty where the vocabulary has none.
    """

    label: int
    number: int
    name: str
    external_id: str = ""


@dataclass(frozen=True)
class ExportedObject:
    """A mask with its category.

    Attributes:
        label: of its category, or 0 where its pixels are to be ignored.
        mask: COCO's compressed run lengths: size [h, w], and counts as text.
        quality: 0..1; None where it was not estimated.
        score: cosine of image and category; None where not known.
        rank: of the image among those of the category, from 1; None where not known.
        mask_id: 32 hex digits, by which decisions name the mask.
    """

    label: int
    mask: dict[str, Any]
    quality: float | None = None
    score: float | None = None
    rank: int | None = None
    mask_id: str = ""

    def pixels(self) -> npt.NDArray[np.bool_]:
        """The mask, bool [h, w]."""
        return run_length_pixels(self.mask)

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        from pycocotools import mask as coco_mask

        return int(coco_mask.area(self.mask))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the mask, pixels."""
        from pycocotools import mask as coco_mask

        left, top, width, height = (int(side) for side in coco_mask.toBbox(self.mask))
        return left, top, width, height

    @property
    def facts(self) -> dict[str, Any]:
        """Quality, score, rank and mask_id, as far as they are known."""
        known = {
            "quality": self.quality,
            "score": self.score,
            "rank": self.rank,
            "mask_id": self.mask_id or None,
        }
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, eq=False)
class ExportedImage:
    """An image with its labels.

    Attributes:
        number: its id in formats that have ids.
        image_id: sha256 of its source's bytes, in hex.
        stem: the name of its files, without an extension; unique, and safe on any file system.
        split: one of the export's.
        height, width: h and w.
        jpeg: the image, upright.
        source: where it came from, for people.
        origin: local path of a file with the same bytes as `jpeg`, as the build knew it; empty
            where there is none.
        regions: its objects, those that hide others first; with those to be ignored.
    """

    number: int
    image_id: str
    stem: str
    split: str
    height: int
    width: int
    jpeg: bytes
    source: str
    origin: str
    regions: tuple[ExportedObject, ...]

    @property
    def objects(self) -> tuple[ExportedObject, ...]:
        """The regions that have a category."""
        return tuple(region for region in self.regions if region.label)

    def label_map(self, ignored: int) -> npt.NDArray[np.uint16]:
        """uint16 [h, w]: 0 background, labels, and `ignored` where pixels are to be ignored."""
        masks = ((region.label, region.pixels()) for region in self.regions)
        return painted(masks, (self.height, self.width), ignored)

    def object_map(self, ignored: int) -> npt.NDArray[np.uint16]:
        """uint16 [h, w]: 0 background, the place of each object among `objects`, from 1, and
        `ignored` where pixels are to be ignored."""
        number = 0
        masks = []
        for region in self.regions:
            number += bool(region.label)
            masks.append((number if region.label else 0, region.pixels()))
        return painted(masks, (self.height, self.width), ignored)
