"""Conversion of decoded images of any colour mode to 8-bit RGB, some rows at a time.

An image of 100 megapixels is 400 MB in Pillow's memory, and each step over the whole of it would
take as much again, or several times that in NumPy's wider numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from storage.images.bit_depth import bits_used, deep_scale, low_bytes, scaled

_ALPHA_MODES: Final = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
# Of each thread, glibc keeps what such a step took: 50 MB for a million pixels.
_PIXELS_AT_ONCE: Final = 2**18


def has_alpha(image: Image.Image) -> bool:
    """Whether an image has transparency of any kind."""
    return image.mode in _ALPHA_MODES or image.has_transparency_data


def flattened(source: Image.Image) -> Image.Image:
    """An 8-bit image of any mode as RGB, laid on white where it has transparency.

    The result has no metadata. It shares its pixels with `source` where that is RGB already.
    """
    if has_alpha(source):
        image = Image.new("RGB", source.size)
        for place, rows in _in_rows(source):
            rgba = rows.convert("RGBA")
            white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
            image.paste(Image.alpha_composite(white, rgba).convert("RGB"), place)
        return image
    return _bare(source if source.mode == "RGB" else source.convert("RGB"))


def grey_as_rgb(source: Image.Image, bit_depth: int) -> tuple[Image.Image, int | None]:
    """Grey values of any numbers, scaled to 0 … 255, as RGB, and for integers the bits gone by.

    The range is that of the narrowest usual encoding that holds them: for integers 8, 10, 12, 14
    or 16 bits, or `bit_depth`; 0 … 1, 0 … 255 or 0 … 65535 for floats. Where none does, it is from
    the least to the greatest value. Scaling each image by its own range always would turn a dark
    image into a noisy one.
    """
    ranges = [(float(v.min()), float(v.max())) for v in (_values(r) for _, r in _in_rows(source))]
    low, high = min(each[0] for each in ranges), max(each[1] for each in ranges)
    scale, bits = _grey_scale(low, high, bit_depth, is_float=source.mode.startswith("F"))
    image = Image.new("RGB", source.size)
    for place, rows in _in_rows(source):
        image.paste(Image.fromarray(scale(_values(rows))).convert("RGB"), place)
    return image, bits


def deep_colours(
    image: Image.Image, reopen: Callable[[], ImageFile.ImageFile], bit_depth: int
) -> tuple[Image.Image, int]:
    """A loaded image whose colours or alpha had 16 bits, by the range that they use, and its
    bits.

    PIL keeps the high bytes alone. Where they are all small, the low ones are read as well, by
    telling PIL that the bytes lie in the other order.

    Args:
        image: mode RGB, RGBA or the like, 8 bits a channel: the high bytes; they may be
            overwritten.
        reopen: opens the same file once more, not yet loaded.
        bit_depth: bits to scale by; 0 for those in use.
    """
    largest = max(int(np.asarray(rows)[..., :3].max(initial=0)) for _, rows in _in_rows(image))
    if not deep_scale(largest, bit_depth):
        return image, 16
    low = low_bytes(reopen())
    if low is None:
        return image, 16
    with closing(low):  # at once, and not when Python finds its cycles of references
        if low.size != image.size or low.getbands() != image.getbands():
            return image, 16
        bits = _scale_with_low_bytes(image, low, bit_depth)
    return _bare(image), bits


def _scale_with_low_bytes(image: Image.Image, low: Image.Image, bit_depth: int) -> int:
    """Overwrite an image of high bytes with the values that both make; their bits."""
    channels = len(image.getbands())
    maxima = [values.reshape(-1, channels).max(axis=0) for _, values in _deep(image, low)]
    *colours, alpha = (
        np.max(maxima, axis=0).tolist() if channels > 3 else (*np.max(maxima, axis=0).tolist(), 0)
    )
    bits = bit_depth or bits_used(int(max(colours)))
    for place, values in _deep(image, low):
        parts = [scaled(values[..., :3], bits)]
        if channels > 3:
            parts.append(scaled(values[..., 3:], bits_used(int(alpha))))
        image.paste(Image.fromarray(np.concatenate(parts, axis=2), image.mode), place)
    return bits


def _in_rows(image: Image.Image) -> Iterator[tuple[tuple[int, int], Image.Image]]:
    """Some rows of an image after the others, and where they lie: x, y."""
    width, height = image.size
    step = max(1, _PIXELS_AT_ONCE // width)
    for top in range(0, height, step):
        yield (0, top), image.crop((0, top, width, min(top + step, height)))


def _bare(source: Image.Image) -> Image.Image:
    """An image of the same pixels, which are not copied, without metadata."""
    image = source._new(source.im)
    image.info = {}
    return image


def _values(rows: Image.Image) -> NDArray[Any]:
    values = np.asarray(rows)
    return np.nan_to_num(values, posinf=0, neginf=0) if values.dtype.kind == "f" else values


def _grey_scale(
    low: float, high: float, bit_depth: int, *, is_float: bool
) -> tuple[Callable[[NDArray[Any]], NDArray[np.uint8]], int | None]:
    """What brings values of that range to 0 … 255."""
    if low >= 0 and high <= 65535:
        if not is_float:
            bits = bit_depth or bits_used(int(high))
            return lambda values: scaled(values, bits), bits
        low, high = 0.0, 1.0 if high <= 1 else 255.0 if high <= 255 else 65535.0
    span = (high - low) or 1.0
    return (
        lambda values: np.rint((values.astype(np.float64) - low) * (255.0 / span)).astype(np.uint8)
    ), None


def _deep(
    high: Image.Image, low: Image.Image
) -> Iterator[tuple[tuple[int, int], NDArray[np.uint16]]]:
    """Values of 16 bits, some rows after the others."""
    for (place, rows), (_, low_rows) in zip(_in_rows(high), _in_rows(low), strict=True):
        yield place, np.asarray(rows).astype(np.uint16) << 8 | np.asarray(low_rows)
