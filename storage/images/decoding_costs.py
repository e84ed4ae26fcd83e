"""Memory that decoding an image will need, estimated from its header.

Pillow keeps a pixel in 1, 2 or 4 bytes, of RGB in 4; conversion to RGB makes another image beside
the first; and decoders have buffers of their own. Figures of the latter are measured
(`benchmarks/decoding_memory.py`).
"""

from __future__ import annotations

from typing import Any, Final

from PIL import ImageFile

_RGB_BYTES: Final = 4
_STORED_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
# Bytes a pixel: canvases of an animation, which the decoders of WebP and AVIF have of a still image
# too; 32-bit numbers of each of JPEG 2000's channels, twice.
_DECODERS_BYTES: Final = {"WEBP": 12, "AVIF": 9, "JPEG2000": 16}
_ROWS_PER_STRIP_TAG, _TILE_WIDTH_TAG = 278, 322
_RAW: Final = "raw"


def decoding_bytes(image: ImageFile.ImageFile, *, deep: bool, turned: bool) -> int:
    """Bytes that are needed from an image's header to RGB, about; more rather than less.

    Args:
        image: opened, not loaded.
        deep: colours have more than 8 bits a channel, so that it may be read a second time.
        turned: it is to be turned or mirrored.
    """
    stored = _STORED_BYTES.get(image.mode, 4)
    result = 0 if image.mode == "RGB" and not image.has_transparency_data else _RGB_BYTES
    again = stored if deep else 0
    upright = _RGB_BYTES if turned else 0
    each = stored + max(result, again, upright) + _decoder_bytes(image)
    return each * image.width * image.height


def _decoder_bytes(image: ImageFile.ImageFile) -> int:
    if image.format in ("JPEG", "MPO") and image.info.get("progressive"):
        return 2 * len(image.getbands())  # a coefficient of each value, until the last scan
    if image.format == "TIFF":
        return _strip_bytes(image)
    return _DECODERS_BYTES.get(image.format or "", 0)


def _strip_bytes(image: ImageFile.ImageFile) -> int:
    """Of a compressed TIFF in few strips, each of which is decompressed as a whole."""
    tags: Any = getattr(image, "tag_v2", {})
    if _TILE_WIDTH_TAG in tags or all(tile.codec_name == _RAW for tile in image.tile):
        return 0
    rows = tags.get(_ROWS_PER_STRIP_TAG, image.height)
    is_coarse = not isinstance(rows, int) or 8 * rows > image.height
    return 2 * len(image.getbands()) if is_coarse else 0
