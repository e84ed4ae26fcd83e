"""FiftyOne's COCODetectionDataset: for each split a folder with `data/` and `labels.json`."""

from __future__ import annotations

from tasks.exporting.exported import ExportedImage
from tasks.formats.coco import CocoFile, annotation
from tasks.formats.writer import Target


class FiftyOneWriter:
    """Writes `SPLIT/data/` and `SPLIT/labels.json`, COCO's format under FiftyOne's names."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._next = 1
        contents = target.contents
        self._files = {
            split: CocoFile(
                target.folder / split / "labels.json", contents.categories, contents.name
            )
            for split in contents.splits
        }

    def add(self, image: ExportedImage) -> None:
        folder = f"{image.split}/data"
        file = self._files[image.split]
        file.add_image(image, self._target.images.put(image, folder).removeprefix(f"{folder}/"))
        for each in image.objects:
            category = self._target.contents.category(each.label)
            described = annotation(each, self._next, image, category, self._target.masks)
            # FiftyOne makes fields of an annotation's own keys.
            file.add(described | described.pop("attributes"))
            self._next += 1

    def finish(self) -> None:
        for file in self._files.values():
            file.finish()

    def close(self) -> None:
        for file in self._files.values():
            file.close()
