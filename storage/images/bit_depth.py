"""Scaling of samples of more than 8 bits to 8 bits, by the range that they use.

Cameras, scanners and medical devices write 10, 12 or 14 bits into files of 16 without saying so.
Divided by the range of the file, such an image is black.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from storage.errors.exceptions import ConfigError

# Depths of cameras, scanners and medical devices.
_USUAL_DEPTHS: Final = (8, 10, 12, 14, 16)
# The high byte from which on a value needs 16 bits.
_NEEDS_SIXTEEN: Final = 1 << (14 - 8)
# Which of a sample's two bytes PIL takes follows from the order that it believes them to be in.
_OTHER_ORDER: Final = {
    ";16L": ";16B",
    ";16B": ";16L",
    ";16N": ";16B" if sys.byteorder == "little" else ";16L",
}
_BITS_PER_SAMPLE_TAG: Final = 258
_PLANES_TAG: Final = 284
_PPM_FULL_RANGE: Final = 65535


def check_bit_depth(bit_depth: int) -> None:
    """Check a bit depth: 0 (as the image uses) or 8 to 16 bits.

    Raises:
        ConfigError: it is another number.
    """
    if bit_depth and not 8 <= bit_depth <= 16:
        raise ConfigError(
            f"bit_depth is {bit_depth}: choose 8 to 16 bits, or 0 for the narrowest of "
            f"{', '.join(map(str, _USUAL_DEPTHS))} that holds an image's values."
        )


def bits_used(maximum: int) -> int:
    """The narrowest usual depth that holds a value of 0 … 65535."""
    return next(bits for bits in _USUAL_DEPTHS if maximum < 1 << bits)


def stated_bits(image: ImageFile.ImageFile) -> int | None:
    """The depth that an opened file states for its values; None where it states none.

    PIL has scaled values of PPM and JPEG 2000 to 16 bits by then.
    """
    if image.format == "JPEG2000":
        return 16
    if image.format == "PPM":
        maximum = image.tile[0].args
        return None if isinstance(maximum, tuple) and maximum[-1] == _PPM_FULL_RANGE else 16
    stated = _bits_per_sample(image)
    return stated if 8 < stated < 16 else None


def has_deep_planes(image: ImageFile.ImageFile) -> bool:
    """Whether a TIFF keeps channels of more than 8 bits apart; PIL reads noise from such files."""
    tags = getattr(image, "tag_v2", {})
    return bool(tags.get(_PLANES_TAG) == 2 and len(tags.get(_BITS_PER_SAMPLE_TAG, ())) > 1
                and _bits_per_sample(image) > 8)  # fmt: skip


def _bits_per_sample(image: ImageFile.ImageFile) -> int:
    """Of a TIFF; 0 where it isn't stated."""
    return int(max(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE_TAG, (0,))))


def scaled(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Integers of 0 … 2**bits - 1, of any shape, as 0 … 255; larger ones are cut."""
    largest = (1 << bits) - 1
    cut = np.minimum(values, largest).astype(np.uint32)
    return np.asarray((cut * 510 + largest) // (2 * largest), dtype=np.uint8)


def deep_scale(largest: int, bit_depth: int) -> bool:
    """Whether colours of 16 bits need their low bytes, by the largest of their high ones."""
    return bit_depth != 16 and (bit_depth > 0 or largest < _NEEDS_SIXTEEN)


def low_bytes(image: ImageFile.ImageFile) -> Image.Image | None:
    """The low bytes of a file that isn't loaded yet; None where PIL can't read them."""
    with image:
        image.tile = [tile._replace(args=_in_other_order(tile.args)) for tile in image.tile]
        try:
            image.load()
        except (ValueError, OSError):  # `unknown raw mode`: LA has one order only
            return None
        return image


def _in_other_order(args: Any) -> Any:
    if isinstance(args, tuple):
        return tuple(map(_in_other_order, args))
    if isinstance(args, str):
        for order, other in _OTHER_ORDER.items():
            if args.endswith(order):
                return args.removesuffix(order) + other
    return args
