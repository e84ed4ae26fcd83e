"""YOLO's format for segmentation, as Ultralytics reads it: a text file for each image."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import yaml

from tasks.exporting.exported import ExportedImage, ExportedObject
from tasks.formats.writer import Target
from tasks.mask_forms.outlines import pixel_polygon

JOINED: Final = "masks of several pieces, which lines one pixel wide join"
_LEAST_CORNERS: Final = 3
"""Lines with fewer corners are read as boxes."""


class YoloWriter:
    """Writes `images/SPLIT/`, `labels/SPLIT/` and `data.yaml`.

    A line is an object: its category, counted from 0 on, and one polygon through the middles of
    pixels, in shares of the image's sides. Ultralytics cuts these to whole pixels.
    """

    def __init__(self, target: Target) -> None:
        self._target = target

    def add(self, image: ExportedImage) -> None:
        self._target.images.put(image, f"images/{image.split}")
        path = self._target.folder / "labels" / image.split / f"{image.stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(map(self._line, image.objects)), encoding="ascii")

    def finish(self) -> None:
        contents = self._target.contents
        folders = {split: f"images/{split}" for split in contents.splits}
        several = list(folders.values())
        described: dict[str, Any] = {
            # Ultralytics refuses data without these two.
            "train": several[0],
            "val": several[min(1, len(several) - 1)],
            **folders,
            "names": {each.label - 1: each.name for each in contents.categories},
        }
        text = yaml.safe_dump(described, allow_unicode=True, sort_keys=False, width=10_000)
        (self._target.folder / "data.yaml").write_text(text, encoding="utf-8")

    def close(self) -> None:
        """Nothing is open between images."""

    def _line(self, each: ExportedObject) -> str:
        mask = each.pixels()
        height, width = mask.shape
        if not _is_one_piece(mask):
            self._target.losses[JOINED] += 1
        corners = pixel_polygon(mask).tolist()
        corners += corners[-1:] * (_LEAST_CORNERS - len(corners))
        numbers = (f"{(x + 0.5) / width:.7f} {(y + 0.5) / height:.7f}" for x, y in corners)
        return f"{each.label - 1} {' '.join(numbers)}\n"


def _is_one_piece(mask: npt.NDArray[np.bool_]) -> bool:
    """Whether all pixels hang together, at corners, too."""
    from scipy.ndimage import label

    return int(label(mask, np.ones((3, 3)))[1]) <= 1
