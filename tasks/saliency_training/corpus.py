"""A sample of a corpus in memory, for training SelfMask.

Dimensions:
    h, w  rows, columns of an image
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.corpora.image_bytes import ImageBytes, iter_entry
from storage.corpora.selection import ALL, Selection
from storage.errors.exceptions import CorpusError, ImageRejected
from storage.errors.reject_reasons import UNREADABLE
from storage.files.file_kinds import file_name
from storage.files.filesystems import display
from storage.images.decoding import decoded
from tasks.prediction.predict import find_images
from tasks.stage.contract import Progress, SilentProgress


@dataclass(frozen=True, eq=False)
class CorpusImage:
    """A usable image.

    Attributes:
        name: of its file, or of the member of a tar, without folders.
        pixels: uint8 [h, w, 3], RGB.
    """

    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class CorpusSample:
    """A sample of a corpus.

    Attributes:
        images: in the order of their names.
        rejects: number of unusable images, by reason.
        ignored: other files and excluded images, by kind as in `Listing.ignored`; in tars, as far
            as they were read.
        warnings: images that are used despite a warning of the decoder, by warning.
    """

    images: tuple[CorpusImage, ...]
    rejects: dict[str, int]
    ignored: dict[str, int]
    warnings: dict[str, int] = field(default_factory=dict)


def read_sample(
    specs: Sequence[str],
    *,
    at_most: int,
    shorter_side: int,
    seed: int,
    progress: Progress | None = None,
    selection: Selection = ALL,
    uri_column: str = "",
) -> CorpusSample:
    """Read random images of a corpus; unusable ones are counted and skipped.

    Args:
        specs: sources as of a build's corpus; see `storage.corpora.corpus`.
        at_most: limit of the number of images; 0: none. Of a tar, the first images are read.
        shorter_side: pixels; larger images are reduced to it.
        seed: of the random choice.
        progress: advanced by each image.
        selection: patterns of names.
        uri_column: the column of tables that has the images' URIs; empty: a usual one.

    Raises:
        CorpusError: there is no usable image.
    """
    progress = progress or SilentProgress()
    listing = find_images(specs, selection=selection, uri_column=uri_column)
    ignored = Counter(listing.ignored)
    rejects = Counter(listing.rejects["reason"].to_pylist())
    warnings: Counter[str] = Counter()
    images: list[CorpusImage] = []
    order = np.random.default_rng(seed).permutation(listing.entries.num_rows)
    for item in _items(listing.entries.take(order).to_pylist(), selection, ignored):
        try:
            images.append(_image(item, shorter_side, warnings))
        except ImageRejected as rejected:
            rejects[rejected.reason] += 1
        progress.advance()
        if len(images) == at_most:
            break
    if not images:
        reasons = ", ".join(f"{count} {reason}" for reason, count in rejects.items())
        raise CorpusError(f"None of the images can be used ({reasons or 'there are none'}).")
    images.sort(key=lambda image: image.name)
    return CorpusSample(
        images=tuple(images),
        rejects=dict(rejects),
        ignored=dict(sorted(ignored.items())),
        warnings=dict(sorted(warnings.items())),
    )


def _items(
    entries: list[dict[str, Any]], selection: Selection, others: Counter[str]
) -> Iterator[ImageBytes]:
    for entry in entries:
        yield from iter_entry(
            entry["uri"], entry["kind"], size=entry["size"], others=others, selection=selection
        )


def _image(item: ImageBytes, shorter_side: int, warnings: Counter[str]) -> CorpusImage:
    if item.data is None:
        raise ImageRejected(item.reject_reason or UNREADABLE)
    with decoded(item.data) as found:
        image = found.image
        share = shorter_side / min(image.size)
        if share < 1:
            width, height = (max(1, round(side * share)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        warnings.update(found.warnings)
        return CorpusImage(file_name(display(item.member or item.uri)), np.asarray(image))
