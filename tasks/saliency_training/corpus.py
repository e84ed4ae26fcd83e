"""A part of a corpus in memory, as SelfMask is trained on it.

Dimensions:
    h, w  rows, columns of a picture
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
    """A picture that can be used.

    Attributes:
        name: its file's, without folders; of a tar's member, the member's.
        pixels: uint8 [h, w, 3], RGB.
    """

    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class CorpusSample:
    """What was read.

    Attributes:
        images: in the order of their names.
        rejects: how many could not be used, by reason.
        ignored: other files, and what is left out by its name, by kind as in `Listing.ignored`;
            of tars, as far as they were read.
        warnings: pictures that are used although the decoder found something odd, by what.
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
    """Read pictures of a corpus, chosen at random; what can't be used is counted and passed over.

    Args:
        specs: whatever a build takes as its corpus; see `storage.corpora.corpus`.
        at_most: pictures; 0: all of them. Of a tar, the first ones are taken.
        shorter_side: pixels; larger pictures are made that small.
        seed: of the choice.
        progress: hears of every picture.
        selection: what is taken, by names.
        uri_column: of tables, the column that says where the pictures are; empty: a usual one.

    Raises:
        CorpusError: there is no picture that can be used.
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
        raise CorpusError(f"None of the pictures can be used ({reasons or 'there are none'}).")
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
