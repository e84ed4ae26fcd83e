"""Decoding of image files to upright 8-bit RGB, or rejection with a reason."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, Literal

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from storage.errors.exceptions import ImageRejected
from storage.errors.reject_reasons import (
    ALPHA,
    ANIMATED,
    CMYK,
    CORRUPT,
    EMPTY_FILE,
    NOT_AN_IMAGE,
    PALETTE,
    REJECT_REASONS,
    SIXTEEN_BIT,
    TOO_LARGE,
    TOO_MANY_PIXELS,
    TOO_SMALL,
    TRUNCATED,
    UNSUPPORTED_COLOURS,
)
from storage.images.bit_depth import has_deep_planes, stated_bits
from storage.images.colours import deep_colours, flattened, grey_as_rgb
from storage.images.decoding_costs import decoding_bytes
from storage.images.memory_budget import DECODING, give_back_at_once
from storage.images.pillow_warnings import noted_warnings, watch_pillow

__all__ = ["HEAD_BYTES", "REJECT_REASONS", "DecodedImage", "decode", "decoded", "looks_like_image"]

# The formats that are tried, in this order, and no others: nothing here starts another program or
# follows references, as PIL's readers of EPS and the like do. Importing a plugin registers it.
_PLUGINS: Final = {
    "JPEG": JpegImagePlugin,
    "PNG": PngImagePlugin,
    "WEBP": WebPImagePlugin,
    "GIF": GifImagePlugin,
    "AVIF": AvifImagePlugin,
    "TIFF": TiffImagePlugin,
    "JPEG2000": Jpeg2KImagePlugin,
    "BMP": BmpImagePlugin,
    "PPM": PpmImagePlugin,
}
watch_pillow()
give_back_at_once()
# Two letters at the start make these, and some texts begin with them.
_WEAK_SIGNATURES: Final = frozenset({"BMP", "PPM"})

# What follows those two letters: a bitmap's reserved zeros, or the sides of a pixel map.
_LONGER_SIGNATURES: Final = re.compile(rb"BM.{4}\0{4}|P[1-6]\s+(#|\d+\s)", re.DOTALL)
HEAD_BYTES: Final = 32

_UPRIGHT: Final = {  # EXIF orientation -> its inverse
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG: Final = 0x0112

_EIGHT_BIT_MODES: Final = frozenset(
    {"1", "L", "P", "RGB", "RGBX", "RGBA", "RGBa", "LA", "La", "PA", "CMYK", "YCbCr", "HSV"}
)
# Formats whose colours PIL reduces to 8 bits while decoding, by dropping the low bytes.
_HALVED_COLOURS: Final = frozenset({"PNG", "TIFF"})
_COLOUR_MODES: Final = frozenset({"RGB", "RGBX", "RGBA", "RGBa"})

# Photographs have thousands; label maps, masks and broken scans have fewer than this.
_FEW_COLOURS: Final = 20

_EARLY_END = re.compile(r"truncated|\beof\b|end of (file|data)|not enough", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An image that can be used.

    Attributes:
        image: mode RGB, 8 bits per channel, upright; with no metadata, so that nothing turns it
            a second time.
        height: of the upright image, in pixels.
        width: of the upright image, in pixels.
        format: JPEG, PNG, WEBP, GIF, AVIF, TIFF, JPEG2000, BMP or PPM.
        conversion: the unusual property that was converted: animated, cmyk, sixteen_bit, palette or
            alpha, the first of these that applies; '' for nothing.
        turned: it was turned or mirrored by its metadata, against the stored pixels.
        bits: of integers of more than 8 bits a channel those that the scaling to 8 bits went by, 8
            to 16; None for other images.
        few_colours: `image` has fewer than 20 distinct colours, which no photograph has.
        warnings: oddities that the decoder found and read all the same: words of
            `reject_reasons.IMAGE_WARNINGS`, sorted.
    """

    image: Image.Image
    height: int
    width: int
    format: str
    conversion: str
    turned: bool
    bits: int | None
    few_colours: bool
    warnings: tuple[str, ...] = ()


def decode(
    data: bytes,
    *,
    unusual: Literal["convert", "reject"] = "convert",
    max_pixels: int = 100_000_000,
    max_side: int = 16_384,
    min_side: int = 16,
    bit_depth: int = 0,
) -> DecodedImage:
    """Decodes an image file.

    Unusual images are converted so: CMYK to RGB without a colour profile; more than 8 bits per
    channel scaled by the range that the values use (see `storage.images.colours` and `bit_depth`);
    palettes expanded; of an animation or a file of several pages the first frame; transparency
    laid on white.

    Threads that decode at the same time share `memory_budget.DECODING`; where they go on to hold
    what they have decoded, `decoded` is for them.

    Args:
        data: the file's bytes.
        unusual: whether such images are converted or rejected.
        max_pixels: limit on height x width; read from the header, before pixels are decoded.
        max_side: limit on the longer side in pixels, likewise.
        min_side: limit on the shorter side in pixels, likewise.
        bit_depth: bits that integers of more than 8 are scaled by, 8 to 16; 0 for the narrowest of
            8, 10, 12, 14 and 16 that holds the image's values. Stated depths of formats (PPM,
            JPEG 2000, TIFF of 10 to 14 bits) take precedence.

    Raises:
        ImageRejected: the bytes can't be used; the reason is one of REJECT_REASONS.
    """
    limits = _Limits(max_pixels, max_side, min_side)
    with _decoded(data, unusual, limits, bit_depth, None) as image:
        return image


@contextmanager
def decoded(
    data: bytes,
    *,
    unusual: Literal["convert", "reject"] = "convert",
    bit_depth: int = 0,
    besides: Callable[[int, int], int] | None = None,
) -> Iterator[DecodedImage]:
    """`decode`, for a block that makes the image small or is done with it at its end.

    Until then, its memory counts as held: other threads wait with theirs where it would be too
    much together. After it, `image` is closed. Blocks don't lie within one another.

    Args:
        data, unusual, bit_depth: as of `decode`.
        besides: bytes that the block itself will need, of height and width.

    Raises:
        ImageRejected: as `decode`.
    """
    with _decoded(data, unusual, _Limits(), bit_depth, besides) as image:
        try:
            yield image
        finally:
            # Frees the pixels before other threads get the memory.
            image.image.close()


@dataclass(frozen=True)
class _Limits:
    """As arguments of `decode`."""

    max_pixels: int = 100_000_000
    max_side: int = 16_384
    min_side: int = 16


@contextmanager
def _decoded(
    data: bytes,
    unusual: Literal["convert", "reject"],
    limits: _Limits,
    bit_depth: int,
    besides: Callable[[int, int], int] | None,
) -> Iterator[DecodedImage]:
    if not data:
        raise ImageRejected(EMPTY_FILE)
    with noted_warnings() as words:
        file_format, source = _open(data)
        _check_size(source, limits)
        needed = decoding_bytes(source, deep=_is_deep(source), turned=_will_be_turned(source))
    needed += besides(source.height, source.width) if besides else 0
    with DECODING.hold(needed):
        with noted_warnings(words):
            try:
                image = _load(data, file_format, source, unusual, bit_depth)
            finally:
                # Its pixels may be others than the image's, and an error's traceback or a cycle
                # of references would keep them.
                source.close()
        yield replace(image, warnings=tuple(sorted(words)))


def _load(
    data: bytes,
    file_format: str,
    source: ImageFile.ImageFile,
    unusual: Literal["convert", "reject"],
    bit_depth: int,
) -> DecodedImage:
    with source:
        conversion = _conversion(source)
        try:
            image, bits = _to_rgb(source, data, bit_depth)
            turn = _turn(source)
            if turn is not None:
                image = image.transpose(turn)
        except Exception as error:
            raise _rejection(data, file_format, error) from error
        conversion = ANIMATED if _is_animated(source) else conversion
    if conversion and unusual == "reject":
        raise ImageRejected(conversion)
    few_colours = image.getcolors(_FEW_COLOURS - 1) is not None
    return DecodedImage(image, image.height, image.width, file_format, conversion,
                        turn is not None, bits, few_colours)  # fmt: skip


def looks_like_image(head: bytes) -> bool:
    """Whether a file that begins so, with its first `HEAD_BYTES`, may be an image that `decode`
    takes; judged by marks that texts and other data don't begin with."""
    for file_format in _PLUGINS:
        _, accept = Image.OPEN[file_format]
        if accept is None or accept(head[:16]) is not True:
            continue
        if file_format not in _WEAK_SIGNATURES or _LONGER_SIGNATURES.match(head):
            return True
    return False


def _open(data: bytes) -> tuple[str, ImageFile.ImageFile]:
    """Format and image with its header read.

    `Image.open` does the same, but applies a process-wide limit on pixels, with a warning where
    ours still allows the image.
    """
    failure = ImageRejected(NOT_AN_IMAGE)
    for file_format in _PLUGINS:
        factory, accept = Image.OPEN[file_format]
        if accept is None or accept(data[:16]) is not True:
            continue
        if file_format == "JPEG":
            # Its factory makes animations of the previews and depth maps that phones append.
            factory = JpegImagePlugin.JpegImageFile
        try:
            return file_format, factory(io.BytesIO(data), "")
        except Exception as error:
            if file_format not in _WEAK_SIGNATURES:
                failure = _rejection(data, file_format, error)
    raise failure


def _check_size(source: Image.Image, limits: _Limits) -> None:
    width, height = source.size
    size = f"{width} x {height}"
    if min(width, height) < limits.min_side:
        raise ImageRejected(TOO_SMALL, f"{size}, the limit is {limits.min_side}")
    if max(width, height) > limits.max_side:
        raise ImageRejected(TOO_LARGE, f"{size}, the limit is {limits.max_side}")
    if width * height > limits.max_pixels:
        raise ImageRejected(TOO_MANY_PIXELS, f"{size}, the limit is {limits.max_pixels}")


def _rejection(data: bytes, file_format: str, error: Exception) -> ImageRejected:
    """What an error of PIL means. It raises nearly every type there is on damaged files."""
    if isinstance(error, ImageRejected):
        return error
    if isinstance(error, MemoryError):  # the machine's fault, not the image's
        raise error
    detail = f"{file_format}: {error}"
    if isinstance(error, Image.DecompressionBombError):
        return ImageRejected(TOO_MANY_PIXELS, detail)
    early = isinstance(error, EOFError) or _EARLY_END.search(str(error))
    if early or _lacks_end(data, file_format):
        return ImageRejected(TRUNCATED, detail)
    return ImageRejected(CORRUPT, detail)


def _lacks_end(data: bytes, file_format: str) -> bool:
    """Whether a file that could not be decoded lacks its format's end mark."""
    if file_format in ("JPEG", "JPEG2000"):
        return not data.rstrip(b"\0\r\n ").endswith(b"\xff\xd9")
    if file_format == "PNG":
        return b"IEND" not in data
    if file_format == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    if file_format == "WEBP":
        return len(data) < 12 or len(data) < 8 + int.from_bytes(data[4:8], "little")
    return file_format == "AVIF" and _last_box_is_cut(data)


def _last_box_is_cut(data: bytes) -> bool:
    """Whether the last of the boxes (length, name, content) of which AVIF consists is cut."""
    start = 0
    while start + 8 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        if length < 8:  # to the end of the file (0), a 64-bit length (1), or damage
            return False
        start += length
    return start != len(data)


def _conversion(source: ImageFile.ImageFile) -> str:
    if source.mode == "CMYK":
        return CMYK
    if _is_deep(source):
        return SIXTEEN_BIT
    if source.mode in ("P", "PA"):
        return PALETTE
    return ALPHA if source.has_transparency_data else ""


def _is_deep(source: ImageFile.ImageFile) -> bool:
    """Whether a channel has more than 8 bits; PIL reduces colours (not greys) while decoding."""
    if source.mode.startswith(("I", "F")):
        return True
    for tile in source.tile:
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if tile.codec_name == "ppm" and isinstance(args[-1], int) and args[-1] > 255:
            return True
        if any(isinstance(arg, str) and ";16" in arg for arg in args):
            return True
    return False


def _to_rgb(
    source: ImageFile.ImageFile, data: bytes, bit_depth: int
) -> tuple[Image.Image, int | None]:
    """A new image of mode RGB, without metadata, and the bits that it was scaled by, if it was."""
    if has_deep_planes(source):
        raise ImageRejected(UNSUPPORTED_COLOURS, "planes of more than 8 bits")
    deep, stated = _is_deep(source), stated_bits(source)
    source.load()
    if source.mode.startswith(("I", "F")):
        return grey_as_rgb(source, stated or bit_depth)
    if source.mode not in _EIGHT_BIT_MODES:
        raise ImageRejected(UNSUPPORTED_COLOURS, source.mode)
    if not deep:
        return flattened(source), None
    if source.format not in _HALVED_COLOURS or source.mode not in _COLOUR_MODES:
        return flattened(source), 16
    image, bits = deep_colours(source, lambda: _open(data)[1], stated or bit_depth)
    return flattened(image), bits


def _turn(source: Image.Image) -> Image.Transpose | None:
    """The transposition that makes an image upright, from its metadata; None if it is upright.

    As `ImageOps.exif_transpose`, which also writes the metadata anew and fails where they are
    damaged. PIL's TIFF reader has turned the image by now and says that it is upright.
    """
    try:
        orientation = source.getexif().get(_ORIENTATION_TAG)
    except Exception:  # damaged metadata are ignored, and the pixels are good
        return None
    return _UPRIGHT.get(orientation) if isinstance(orientation, int) else None


def _will_be_turned(source: ImageFile.ImageFile) -> bool:
    """The same for an image that isn't loaded, from its header."""
    if isinstance(source, TiffImagePlugin.TiffImageFile):
        # Not by `getexif`, which would remember it when PIL has turned the image.
        return bool(source.tag_v2.get(_ORIENTATION_TAG, 1) != 1)
    return "exif" in source.info and _turn(source) is not None


def _is_animated(source: Image.Image) -> bool:
    """Whether there is a second frame. Seeks it in the file, after which `source` is not usable."""
    try:
        return bool(getattr(source, "is_animated", False))
    except Exception:  # the first frame is good; later ones don't matter
        return False
