"""labelme's format: a JSON file beside each image."""

from __future__ import annotations

import base64
import io
from typing import Any, Final

from PIL import Image

from tasks.exporting.exported import ExportedImage, ExportedObject
from tasks.formats.writer import Target, write_json
from tasks.mask_forms.outlines import pixel_polygons

_VERSION: Final = "5.5.0"
_LEAST_CORNERS: Final = 3


class LabelmeWriter:
    """Writes `SPLIT/STEM.json`, and images beside them.

    Masks are shapes of the type `mask`, a small PNG each; polygons one shape a piece, through the
    pixels that labelme draws, and those of an object have one `group_id`.
    """

    def __init__(self, target: Target) -> None:
        self._target = target

    def add(self, image: ExportedImage) -> None:
        name = self._target.images.put(image, image.split)
        shapes = [
            shape
            for number, each in enumerate(image.objects, start=1)
            for shape in self._shapes(each, number)
        ]
        described: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": name.removeprefix(f"{image.split}/"),
            "imageData": None,
            "imageHeight": image.height,
            "imageWidth": image.width,
        }
        write_json(self._target.folder / image.split / f"{image.stem}.json", described)

    def finish(self) -> None:
        """Each file is whole."""

    def close(self) -> None:
        """Nothing is open between images."""

    def _shapes(self, each: ExportedObject, number: int) -> list[dict[str, Any]]:
        quality = "" if each.quality is None else f"quality {each.quality:g}"
        shared = {
            "label": self._target.contents.category(each.label).name,
            "group_id": number,
            "description": quality,
            "flags": {},
        }
        if self._target.masks == "rle":
            left, top, width, height = each.box
            corners = [[left, top], [left + width - 1, top + height - 1]]
            pixels = each.pixels()[top : top + height, left : left + width]
            png = io.BytesIO()
            Image.fromarray(pixels.astype("uint8")).save(png, "PNG")
            text = base64.b64encode(png.getvalue()).decode("ascii")
            return [shared | {"shape_type": "mask", "points": corners, "mask": text}]
        return [
            shared | {"shape_type": "polygon", "points": _at_least_three(polygon.tolist())}
            for polygon in pixel_polygons(each.pixels())
        ]


def _at_least_three(corners: list[list[int]]) -> list[list[int]]:
    """labelme takes no polygon of fewer corners."""
    return corners + corners[-1:] * (_LEAST_CORNERS - len(corners))
