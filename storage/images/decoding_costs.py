"""What decoding an image will take of memory, told from its header.

Pillow keeps a pixel in 1, 2 or 4 bytes, of RGB in 4; conversion to RGB makes another picture beside
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


def decoding_bytes(picture: ImageFile.ImageFile, *, deep: bool, turned: bool) -> int:
    """Bytes that are needed from a picture's header to RGB, about; more rather than less.

    Args:
        picture: opened, not loaded.
        deep: colours have more than 8 bits a channel, so that it may be read a second time.
        turned: it is to be turned or mirrored.
    """
    stored = _STORED_BYTES.get(picture.mode, 4)
    result = 0 if picture.mode == "RGB" and not picture.has_transparency_data else _RGB_BYTES
    again = stored if deep else 0
    upright = _RGB_BYTES if turned else 0
    each = stored + max(result, again, upright) + _decoder_bytes(picture)
    return each * picture.width * picture.height


def _decoder_bytes(picture: ImageFile.ImageFile) -> int:
    if picture.format in ("JPEG", "MPO") and picture.info.get("progressive"):
        return 2 * len(picture.getbands())  # a coefficient of each value, until the last scan
    if picture.format == "TIFF":
        return _strip_bytes(picture)
    return _DECODERS_BYTES.get(picture.format or "", 0)


def _strip_bytes(picture: ImageFile.ImageFile) -> int:
    """Of a compressed TIFF in few strips, each of which is decompressed as a whole."""
    tags: Any = getattr(picture, "tag_v2", {})
    if _TILE_WIDTH_TAG in tags or all(tile.codec_name == _RAW for tile in picture.tile):
        return 0
    rows = tags.get(_ROWS_PER_STRIP_TAG, picture.height)
    is_coarse = not isinstance(rows, int) or 8 * rows > picture.height
    return 2 * len(picture.getbands()) if is_coarse else 0
