"""COCO's format for instances: a JSON file and a folder of images for each split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.exporting.exported import ExportedCategory, ExportedImage, ExportedObject
from tasks.formats.writer import JsonListFile, MaskForm, Target, as_json
from tasks.mask_forms.outlines import corner_polygons

ANNOTATIONS = "annotations"


class CocoWriter:
    """Writes `annotations/instances_SPLIT.json`, and images into `SPLIT/`, as COCO has them."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._next = 1
        self._files = {
            split: CocoFile(
                target.folder / ANNOTATIONS / f"instances_{split}.json",
                target.contents.categories,
                target.contents.name,
            )
            for split in target.contents.splits
        }

    def add(self, image: ExportedImage) -> None:
        name = self._target.images.put(image, image.split)
        file = self._files[image.split]
        file.add_image(image, name.removeprefix(f"{image.split}/"))
        for each in image.objects:
            category = self._target.contents.category(each.label)
            file.add(annotation(each, self._next, image, category, self._target.masks))
            self._next += 1

    def finish(self) -> None:
        for file in self._files.values():
            file.finish()

    def close(self) -> None:
        for file in self._files.values():
            file.close()


class CocoFile:
    """A JSON file of instances, written annotation by annotation."""

    def __init__(self, path: Path, categories: tuple[ExportedCategory, ...], name: str) -> None:
        self._list = JsonListFile(path, '{"annotations": [')
        self._images: list[dict[str, Any]] = []
        self._rest = {
            "categories": [
                {"id": each.number, "name": each.name, "supercategory": ""} for each in categories
            ],
            "info": {"description": f"{name}: pseudo-labels"},
            "licenses": [],
        }

    def add_image(self, image: ExportedImage, name: str) -> None:
        """An image under a path relative to the folder of images, or an absolute one."""
        self._images.append(
            {
                "id": image.number,
                "file_name": name,
                "height": image.height,
                "width": image.width,
                "image_id": image.image_id,
                "source": image.source,
            }
        )

    def add(self, item: Mapping[str, Any]) -> None:
        self._list.add(item)

    def finish(self) -> None:
        rest = as_json({"images": self._images, **self._rest})
        # These are the remaining keys of the object, after the list of annotations.
        self._list.finish(f"],\n{rest[1:]}")

    def close(self) -> None:
        self._list.close()


def annotation(
    each: ExportedObject,
    number: int,
    image: ExportedImage,
    category: ExportedCategory,
    masks: MaskForm,
) -> dict[str, Any]:
    """An object as COCO has it; what else is known of it is among its `attributes`."""
    return {
        "id": number,
        "image_id": image.number,
        "category_id": category.number,
        "bbox": list(each.box),
        "area": each.area,
        "iscrowd": 0,
        "segmentation": each.mask if masks == "rle" else polygons_of(each),
        "attributes": each.facts,
    }


def polygons_of(each: ExportedObject) -> list[list[int]]:
    """COCO's polygons, x and y in turns, which pycocotools turns into the same mask."""
    return [polygon.ravel().tolist() for polygon in corner_polygons(each.pixels())]
