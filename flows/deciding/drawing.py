"""Labels drawn for the page: thumbnails, which are kept on disk, and one at a time in large."""

from __future__ import annotations

import os
import threading
from typing import Final

import numpy as np
from PIL import Image

from flows.deciding.reviewed import Reviewed
from storage.decisions.decision import DrawnMask
from storage.files.bounded_cache import BoundedCache
from storage.images.masks import run_length_pixels
from storage.shards.cache import cache_folder
from tasks.packing.mask_sheet import as_jpeg, draw_mask

THUMBNAIL: Final = 192
"""Longer side of a thumbnail, pixels."""
LARGE: Final = 1_024
"""Longer side of an image in large, pixels."""

_QUALITY: Final = 82
_CACHE_BYTES: Final = 1_000_000_000
"""About a hundred thousand thumbnails."""
_VERSION: Final = 1
"""Of how thumbnails are drawn: part of their names."""


class Drawings:
    """Draws labels of a build. Thread-safe.

    Args:
        reviewed: the labels.
        cache: of thumbnails; None: the user's.
    """

    def __init__(self, reviewed: Reviewed, cache: BoundedCache | None = None) -> None:
        self._reviewed = reviewed
        self._cache = cache or BoundedCache(cache_folder("thumbnails"), _CACHE_BYTES)
        self._at_work = threading.BoundedSemaphore(os.cpu_count() or 1)

    def thumbnail(self, label: int) -> bytes:
        """A JPEG of the label's image with its mask, from the disk where it is there.

        Raises:
            ArtifactError: the sample is gone or damaged.
            StorageError: the shard can't be read.
        """
        name = f"{self._reviewed.build.dataset.key}-{label}-{THUMBNAIL}-{_VERSION}.jpg"
        kept = self._cache.get(name)
        if kept is not None:
            return kept
        with self._at_work:
            drawn = as_jpeg(self._drawn(label, THUMBNAIL), _QUALITY)
        self._cache.put(name, drawn)
        return drawn

    def large(self, label: int, *, mask: bool, corrected: DrawnMask | None = None) -> bytes:
        """A JPEG of the label's image, with or without its mask.

        Args:
            label: its index.
            mask: whether it is drawn.
            corrected: the mask that somebody drew in its place; its edge is drawn, too.

        Raises:
            ArtifactError, StorageError: as `thumbnail`.
        """
        with self._at_work:
            samples = self._reviewed.labels.samples
            sample = int(samples.objects.samples[label])
            longest = int(max(samples.heights[sample], samples.widths[sample]))
            side = min(LARGE, longest)
            return as_jpeg(self._drawn(label, side, mask=mask, corrected=corrected))

    def _drawn(
        self, label: int, side: int, *, mask: bool = True, corrected: DrawnMask | None = None
    ) -> Image.Image:
        samples, objects = self._reviewed.labels.samples, self._reviewed.labels.samples.objects
        sample, place = int(objects.samples[label]), int(objects.places[label])
        stored = samples.read(sample, copy=False)
        image = samples.decode_image(sample, stored.jpeg, least=(side, side))
        if not mask:
            image.thumbnail((side, side), Image.Resampling.BICUBIC)
            return image
        own = samples.decode_object(sample, stored, place if objects.several else None)
        other = None
        if corrected and (corrected.height, corrected.width) == own.shape:
            size = [corrected.height, corrected.width]
            other = run_length_pixels({"size": size, "counts": corrected.counts})
        return draw_mask(np.asarray(image), own, other, side=side)
