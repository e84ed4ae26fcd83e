"""The images of an export: copied, linked, or named where they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from tasks.exporting.exported import ExportedImage

ImageMode: TypeAlias = Literal["copy", "link", "paths"]


class ImageFiles:
    """Puts images into an export's folder.

    An image is linked, or named by its path, only if its source is a local file with the very
    bytes that the build has: others were turned upright, are of another format, lie in tars, on
    servers, or have changed. These are copied.

    Attributes:
        counts: images by what became of them.
    """

    def __init__(self, folder: Path, mode: ImageMode) -> None:
        self._folder, self._mode = folder, mode
        self.counts: Counter[ImageMode] = Counter()

    def put(self, image: ExportedImage, folder: str) -> str:
        """Put an image into a folder of the export.

        Args:
            image: of the export.
            folder: relative to the export's, with slashes.

        Returns:
            The absolute path of its source, where that is what the export has; else its path
            relative to the export's folder, with slashes.

        Raises:
            OSError: the folder can't be written.
        """
        mode: ImageMode = self._mode if self._has_own_file(image) else "copy"
        self.counts[mode] += 1
        if mode == "paths":
            return image.origin
        name = PurePosixPath(folder) / f"{image.stem}.jpg"
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode == "link":
            path.symlink_to(image.origin)
        else:
            path.write_bytes(image.jpeg)
        return str(name)

    def _has_own_file(self, image: ExportedImage) -> bool:
        if self._mode == "copy" or not image.origin:
            return False
        try:
            return Path(image.origin).read_bytes() == image.jpeg
        except (OSError, ValueError):
            return False
