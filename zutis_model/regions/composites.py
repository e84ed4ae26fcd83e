"""Images with further objects pasted into them: crowded images whose objects are known.

Networks that were trained on one object an image err most where there are several: masks take in a
neighbour, or have another object than the one that the image was retrieved for. Such images are
made here from two that are believed (copy and paste: Ghiasi et al. 2021; section 3.3 of ZUTIS).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from zutis_model.regions.views import bounding_box

Mask = npt.NDArray[np.bool_]

_SMALLEST, _LARGEST = 0.6, 1.4  # side of a pasted object over that of one of the wanted area
_MOST_OF_IMAGE = 0.9
_LEAST_SIDE = 6


@dataclass(frozen=True, eq=False)
class Composite:
    """An image into which an object was pasted.

    Attributes:
        pixels: uint8 [h, w, 3].
        mask: bool [h, w], the pasted object.
    """

    pixels: npt.NDArray[np.uint8]
    mask: Mask


def pasted(
    pixels: npt.NDArray[np.uint8],
    source: npt.NDArray[np.uint8],
    source_mask: Mask,
    area: float,
    rng: np.random.Generator,
) -> Composite | None:
    """Paste an object of another image at a random place, with soft edges.

    Args:
        pixels: uint8 [h, w, 3], RGB; left as it is.
        source: uint8 [h', w', 3], RGB.
        source_mask: bool [h', w'], the object, at least one pixel.
        area: about how many pixels it is to have; its side varies from 0.6 to 1.4 of that.
        rng: of which `random` alone is used, whose numbers NumPy keeps stable.

    Returns:
        None where it would hardly fit, or be too small to be seen.
    """
    top, bottom, left, right = bounding_box(source_mask)
    factor = np.sqrt(area / np.count_nonzero(source_mask))
    factor *= _SMALLEST + (_LARGEST - _SMALLEST) * rng.random()
    height, width = round((bottom - top) * factor), round((right - left) * factor)
    place = rng.random(), rng.random()
    fits = height <= _MOST_OF_IMAGE * pixels.shape[0] and width <= _MOST_OF_IMAGE * pixels.shape[1]
    if not fits or min(height, width) < _LEAST_SIDE:
        return None
    box = np.s_[top:bottom, left:right]
    size = width, height
    piece = np.asarray(Image.fromarray(source[box]).resize(size, Image.Resampling.BICUBIC))
    outline = Image.fromarray(source_mask[box]).convert("L")
    share = np.asarray(outline.resize(size, Image.Resampling.BILINEAR), dtype=np.float32) / 255
    row = int(place[0] * (pixels.shape[0] - height + 1))
    column = int(place[1] * (pixels.shape[1] - width + 1))
    region = np.s_[row : row + height, column : column + width]
    result = pixels.copy()
    mixed = share[..., None] * piece + (1 - share[..., None]) * pixels[region]
    result[region] = np.clip(np.rint(mixed), 0, 255)
    mask = np.zeros(pixels.shape[:2], dtype=np.bool_)
    mask[region] = share > 0.5
    return Composite(result, mask)
