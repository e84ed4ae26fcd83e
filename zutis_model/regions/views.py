"""Views of a masked region for an image encoder: squares around the object, its surroundings faint.

CLIP recognises an object best with a little of its surroundings, as long as they don't compete with
it. Blurring and greying them keeps the context and takes its class away (Yang et al., "Fine-Grained
Visual Prompting", NeurIPS 2023, who compare boxes, circles, crops and blurs).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

MARGINS: Final = (0.1, 0.5)
"""Of the two views, on each side, as a share of the longer side of the object's box."""

_LEAST_SIDE = 16  # pixels of the image that a view covers at least
_BLUR = 1 / 24  # radius over the view's side
_CONTRAST = 0.4  # of the surroundings
_MID_GREY = 127.5


def region_views(
    image: Image.Image,
    mask: npt.NDArray[np.bool_],
    size: int,
    margins: Sequence[float] = MARGINS,
) -> npt.NDArray[np.uint8]:
    """Square views of one region, from a tight to a wide one.

    Args:
        image: RGB, w x h.
        mask: bool [h, w], at least one pixel.
        size: side of the views, pixels.
        margins: one view for each.

    Returns:
        uint8 [len(margins), size, size, 3]. What a view covers beyond the image is mid-grey.

    Raises:
        ValueError: the image is not RGB, the mask has another shape, or is empty.
    """
    if image.mode != "RGB":
        raise ValueError(f"expected an RGB image, got mode {image.mode}")
    if mask.shape != (image.height, image.width):
        raise ValueError(f"the mask is {mask.shape}, the image {(image.height, image.width)}")
    top, bottom, left, right = bounding_box(mask)
    longer = max(bottom - top, right - left)
    centre = (left + right) / 2, (top + bottom) / 2
    object_mask = Image.fromarray(mask)
    return np.stack([
        _view(image, object_mask, centre, max(longer * (1 + 2 * margin), _LEAST_SIDE), size)
        for margin in margins
    ])  # fmt: skip


def bounding_box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of the mask's pixels, ends excluded.

    Raises:
        ValueError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("the mask has no pixel")
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _view(
    image: Image.Image,
    mask: Image.Image,
    centre: tuple[float, float],
    side: float,
    size: int,
) -> npt.NDArray[np.uint8]:
    (left, right), (top, bottom) = (
        (max(0.0, middle - side / 2), min(float(limit), middle + side / 2))
        for middle, limit in zip(centre, image.size, strict=True)
    )
    box = (left, top, right, bottom)
    # Where the part of the image comes to lie in the view.
    scale = size / side
    column = round((left - centre[0] + side / 2) * scale)
    row = round((top - centre[1] + side / 2) * scale)
    width, height = (max(1, round(n * scale)) for n in (right - left, bottom - top))
    part = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    inside = mask.convert("L").resize((width, height), Image.Resampling.BOX, box=box)
    pixels = np.asarray(part, dtype=np.float32)
    share = np.asarray(inside, dtype=np.float32)[..., None] / 255
    view = np.full((size, size, 3), _MID_GREY, dtype=np.float32)
    rows, columns = slice(row, min(row + height, size)), slice(column, min(column + width, size))
    region = share * pixels + (1 - share) * _surroundings(part, size)
    view[rows, columns] = region[: rows.stop - row, : columns.stop - column]
    return np.asarray(np.clip(np.rint(view), 0, 255), dtype=np.uint8)


def _surroundings(part: Image.Image, size: int) -> npt.NDArray[np.float32]:
    """The part blurred, grey and of little contrast, float32 [h, w, 1]."""
    blurred = part.convert("L").filter(ImageFilter.GaussianBlur(size * _BLUR))
    grey = np.asarray(blurred, dtype=np.float32)[..., None]
    return np.asarray(_MID_GREY + _CONTRAST * (grey - _MID_GREY), dtype=np.float32)
