"""Images of an evaluation set with their ground truth, checked and read ahead of the network.

Dimensions:
    h, w  rows, columns of an image as annotated
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from storage.errors.exceptions import CorpusError
from tasks.workers.reading_ahead import in_order

if TYPE_CHECKING:
    from storage.evaluation_sets.opening import EvaluationImage, InstanceAnnotation

# Images read ahead, and threads that read them.
_AHEAD, _READERS = 4, 2
_PIXELS_BYTES = 5  # per pixel, of the image and its label


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedImage:
    """An image and its ground truth, as the set's reader gives them.

    Attributes:
        source: the entry of the set.
        pixels: uint8 [h, w, 3].
        labels: integers [h, w]; None if the set has no semantic ground truth.
        instances: None if the set has no instance ground truth.
        frame_chosen: the image turned by its EXIF orientation has the same size, so that the
            annotated frame could not be told from sizes and was chosen by `upright`.
        sha256: of the file's bytes, in hex.
    """

    source: EvaluationImage
    pixels: NDArray[np.uint8]
    labels: NDArray[np.integer[Any]] | None
    instances: list[InstanceAnnotation] | None
    frame_chosen: bool = False
    sha256: str = ""


def load_image(image: EvaluationImage, *, upright: bool = False) -> LoadedImage:
    """Read an image with its ground truth; for `upright` see `EvaluationImage.read_in_frame`.

    Raises:
        CorpusError: the image has no ground truth, or one of another size.
    """
    file = image.read_in_frame(upright=upright)
    loaded = LoadedImage(
        source=image,
        pixels=file.pixels,
        labels=image.labels(),
        instances=image.instances(),
        frame_chosen=file.frame_chosen,
        sha256=file.sha256,
    )
    if loaded.labels is None and loaded.instances is None:
        raise CorpusError(
            f"{image.name} has neither a label map nor objects to compare a prediction with: give "
            "annotations for it, or take it out of the set."
        )
    for what, size in _sizes(loaded):
        if size != (image.height, image.width):
            raise CorpusError(
                f"The annotations of {image.name} don't match: they are for {image.height} x "
                f"{image.width} pixels (rows x columns), but {what} has {size[0]} x {size[1]}; use "
                "images and annotations from one release of the data."
            )
    return loaded


def read_ahead(
    images: Sequence[EvaluationImage], *, upright: bool = False
) -> Iterator[LoadedImage]:
    """The images in order, as `load_image` gives them, a few of them read ahead."""
    with ThreadPoolExecutor(_READERS, thread_name_prefix="evaluate") as pool:
        try:
            futures = (
                (
                    pool.submit(load_image, image, upright=upright),
                    _PIXELS_BYTES * image.height * image.width,
                )
                for image in images
            )
            yield from in_order(futures, ahead=_AHEAD)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _sizes(image: LoadedImage) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Rows and columns of the image and each of its annotations."""
    yield "the image", image.pixels.shape[:2]
    if image.labels is not None:
        yield "the label map", image.labels.shape
    for row in image.instances or ():
        yield "an object's mask", tuple(row.rle["size"])
