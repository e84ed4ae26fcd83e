"""Thumbnails of labels and of images without one, within a budget of bytes.

Dimensions:
    h, w  rows, columns of an image
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from flows.builds.found import FoundBuild
from flows.builds.labels import Labels
from flows.reports.parts import Thumbnail
from storage.artifacts.store import Artifact
from storage.errors.exceptions import ImageRejected, ZutisError
from storage.files.filesystems import display
from storage.images.decoding import decoded
from storage.images.masks import mask_pixels
from storage.images.records import read_parquet
from tasks.indexing.source_images import read_source_image
from tasks.masking import make_masks
from tasks.packing.mask_sheet import as_jpeg, draw_mask
from tasks.stage.layout import MASKS, RETRIEVED_IMAGES

Mask = npt.NDArray[np.bool_]

SIDE: Final = 144
"""Longer side of a thumbnail, pixels."""

_QUALITY: Final = 80
_WORSE: Final = 40
_OF_BASE64: Final = 4 / 3
_AROUND: Final = 400
"""Bytes of the page around a thumbnail, about: words and tags."""


@dataclass
class Budget:
    """Bytes that a part of the page may still take."""

    left: float

    def admit(self, images: Iterable[Image.Image]) -> Iterator[bytes]:
        """Images as JPEG files, as long as there is room; the first that doesn't fit ends them."""
        for image in images:
            file = self._fitting(image)
            if file is None:
                return
            self.left -= _size(file)
            yield file

    def _fitting(self, image: Image.Image) -> bytes | None:
        """The image as a file, smaller where that is needed; None if it can't be so small."""
        for quality in (_QUALITY, _WORSE):
            file = as_jpeg(image, quality)
            if _size(file) <= self.left:
                return file
        return None


def _size(file: bytes) -> float:
    return len(file) * _OF_BASE64 + _AROUND


@dataclass(frozen=True, eq=False)
class TrueLabel:
    """What is known of a label where the truth is.

    Attributes:
        iou: of its mask with the true one, 0..1.
        right: whether the image shows the category.
        mask: the true one, bool [h, w].
    """

    iou: float
    right: bool
    mask: Mask


Truth = Mapping[tuple[str, str], TrueLabel]
"""By the category's name and image_id."""


@dataclass(eq=False)
class Pictures:
    """Draws the images of a build.

    Attributes:
        build, labels: of which.
        truth: of labels, where it is known.
    """

    build: FoundBuild
    labels: Labels
    truth: Truth = field(default_factory=dict)

    def of_labels(
        self, chosen: Sequence[int], captions: Sequence[str], budget: Budget, *, true: bool = False
    ) -> tuple[Thumbnail, ...]:
        """Labels with their masks, as many as the budget has room for.

        Args:
            chosen: indices of labels; captions: of each.
            budget: of bytes.
            true: draw the true mask's edge, too, where it is known.

        Raises:
            ArtifactError: a sample is damaged.
            StorageError: a shard can't be read.
        """
        drawn = budget.admit(self.draw(label, true=true) for label in chosen)
        return tuple(
            Thumbnail(
                image=image,
                caption=self._with_truth(label, caption),
                name=self.name_of(self.labels.image_id(label)),
                right=self._is_right(label),
            )
            for label, caption, image in zip(chosen, captions, drawn, strict=False)
        )

    def of_images(
        self, image_ids: Sequence[str], captions: Sequence[str], budget: Budget
    ) -> tuple[Thumbnail, ...]:
        """Images of the retrieval, from the shards or else from the corpus, each with the mask that
        was made of it, if one was.

        An image that can't be read any more has a thumbnail without an image.
        """
        masks = self._masks_of(image_ids)
        shown: list[Thumbnail] = []
        for image_id, caption in zip(image_ids, captions, strict=True):
            drawn = self._draw_image(image_id, masks.get(image_id))
            file = next(budget.admit([drawn]), None) if drawn else b""
            if file is None:
                break
            shown.append(Thumbnail(image=file, caption=caption, name=self.name_of(image_id)))
        return tuple(shown)

    @property
    def retrieved(self) -> list[str]:
        """The image_ids that the retrieval keeps."""
        return list(self._records)

    def name_of(self, image_id: str) -> str:
        """The name of the image's file, or of its tar's member; empty if unknown."""
        record = self._records.get(image_id)
        if record is None:
            return ""
        return display(record["member"] or record["uri"]).rstrip("/").rsplit("/", 1)[-1]

    def draw(self, label: int, *, true: bool = False) -> Image.Image:
        """A label's image with its mask, and with the true mask's edge if that is asked for."""
        objects, samples = self.labels.samples.objects, self.labels.samples
        sample, place = int(objects.samples[label]), int(objects.places[label])
        stored = samples.read(sample, copy=False)
        mask = samples.decode_object(sample, stored, place if objects.several else None)
        image = samples.decode_image(sample, stored.jpeg, least=(SIDE, SIDE))
        known = self._truth_of(label) if true else None
        return draw_mask(np.asarray(image), mask, known.mask if known else None, side=SIDE)

    def _draw_image(self, image_id: str, mask: Mask | None) -> Image.Image | None:
        """The image, with its mask if it has one; None if it can't be read."""
        try:
            pixels, size = self._pixels(image_id)
        except (ZutisError, ImageRejected, OSError, KeyError):
            return None
        if mask is None or mask.shape != size:
            image = Image.fromarray(pixels)
            image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
            return image
        return draw_mask(pixels, mask, side=SIDE)

    def _pixels(self, image_id: str) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
        """The image, uint8 [., ., 3], and its full rows and columns."""
        samples, sample = self.labels.samples, self._sample_of.get(image_id)
        if sample is not None:
            stored = samples.read(sample, copy=False)
            image = samples.decode_image(sample, stored.jpeg, least=(SIDE, SIDE))
            size = int(samples.heights[sample]), int(samples.widths[sample])
            return np.asarray(image), size
        with decoded(read_source_image(self._records[image_id])) as found:
            size = found.image.height, found.image.width
            found.image.thumbnail((2 * SIDE, 2 * SIDE))
            return np.asarray(found.image.convert("RGB")), size

    def _with_truth(self, label: int, caption: str) -> str:
        known = self._truth_of(label)
        return f"{caption}, IoU {known.iou:.2f}" if known else caption

    def _is_right(self, label: int) -> bool:
        known = self._truth_of(label)
        return known is None or known.right

    def _truth_of(self, label: int) -> TrueLabel | None:
        name = self.labels.samples.categories[self.labels.category(label)]
        return self.truth.get((name, self.labels.image_id(label)))

    @cached_property
    def _sample_of(self) -> dict[str, int]:
        samples = self.labels.samples
        return {samples.key(i): i for i in range(len(samples))}

    @cached_property
    def _records(self) -> dict[str, dict[str, Any]]:
        """Where the images that the retrieval keeps are, by image_id."""
        columns = ["image_id", "uri", "member", "offset", "length"]
        with self.build.retrieval.open(RETRIEVED_IMAGES) as file:
            rows = read_parquet(file, columns=columns).to_pylist()
        return {row["image_id"]: row for row in rows}

    def _masks_of(self, image_ids: Sequence[str]) -> dict[str, Mask]:
        """The first usable mask of each image that has one."""
        wanted, found = set(image_ids), dict[str, Mask]()
        for part in self.build.artifacts.get(make_masks.NAME, []):
            for row in _mask_rows(part, wanted - found.keys()):
                found.setdefault(row["image_id"], mask_pixels(row))
            if len(found) == len(wanted):
                break
        return found


def _mask_rows(part: Artifact, wanted: set[str]) -> list[dict[str, Any]]:
    """Rows of usable masks of the images that are wanted; run lengths are read only if there are
    any."""
    with part.open(MASKS) as file:
        known = read_parquet(file, columns=["image_id", "reject_reason"]).to_pydict()
    pairs = zip(known["image_id"], known["reject_reason"], strict=True)
    rows = [at for at, (image_id, why) in enumerate(pairs) if image_id in wanted and not why]
    if not rows:
        return []
    with part.open(MASKS) as file:
        table = read_parquet(file, columns=["image_id", "height", "width", "counts"])
    taken: list[dict[str, Any]] = table.take(rows).to_pylist()
    return taken
