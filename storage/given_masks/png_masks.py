"""Masks in PNGs: one with a single value beside 0 is a mask, one with several has objects."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from PIL import PngImagePlugin

from storage.annotations.label_maps import index_values
from storage.corrections.corrected import drawn_mask
from storage.decisions.decision import DrawnMask
from storage.files.user_files import IMAGE, read_path
from storage.images.pillow_warnings import noted_warnings

_IGNORED: Final = 255
_MASK_SUFFIX: Final = ".mask"
"""Of label maps beside images of one stem, as zutis's own shards have them."""


def image_name(path: Path) -> str:
    """The image's name without its extension."""
    return path.with_suffix("").as_posix().removesuffix(_MASK_SUFFIX)


def masks_of_png(path: Path) -> Iterator[DrawnMask]:
    """The masks of a file's objects, in the order of their values; 255 beside others is none.

    Raises:
        ValueError, SyntaxError, OSError: it is no PNG of one number a pixel.
    """
    with noted_warnings():
        values = index_values(PngImagePlugin.PngImageFile(io.BytesIO(read_path(path, IMAGE))))
    present = [value for value in np.unique(values).tolist() if value > 0]
    if len(present) > 1:
        present = [value for value in present if value != _IGNORED]
    for value in present:
        yield drawn_mask(values == value)
