"""Images and label maps in folders."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tasks.exporting.exported import ExportedImage
from tasks.formats.writer import Target, write_categories


class PngWriter:
    """Writes `images/SPLIT/`, `labels/SPLIT/` and `categories.json`.

    A label map is a grey PNG: 0 background, the category's value, 255 to be ignored. With more than
    254 categories it has 16 bits, and 65,535 is to be ignored.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._ignored = target.contents.ignore_label
        self._dtype = np.uint8 if self._ignored <= np.iinfo(np.uint8).max else np.uint16

    def add(self, image: ExportedImage) -> None:
        self._target.images.put(image, f"images/{image.split}")
        path = self._target.folder / "labels" / image.split / f"{image.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = image.label_map(self._ignored).astype(self._dtype)
        Image.fromarray(values).save(path, "PNG")

    def finish(self) -> None:
        write_categories(self._target.contents, self._target.folder / "categories.json")

    def close(self) -> None:
        """Nothing is open between images."""
