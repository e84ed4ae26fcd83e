"""Pascal VOC's format: boxes as XML, and masks by category and by object as PNGs with a palette."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, SubElement

import numpy as np
import numpy.typing as npt
from PIL import Image

from storage.errors.exceptions import ConfigError
from tasks.exporting.exported import ExportedImage
from tasks.formats.writer import Target, write_categories
from tasks.formats.xml_files import add_texts, write_xml

_FOLDER: Final = "VOCdevkit/VOC2012"
"""Where torchvision looks in the folder that it is given."""
_IGNORED: Final = 255
_MOST: Final = 254


class VocWriter:
    """Writes `VOCdevkit/VOC2012/`, with names of splits in place of VOC's, and `categories.json`.

    Raises:
        ConfigError: there are more categories than a label map of 8 bits holds.
    """

    def __init__(self, target: Target) -> None:
        count = len(target.contents.categories)
        if count > _MOST:
            raise ConfigError(
                f"The build has {count:,} categories, and VOC's label maps hold {_MOST}: choose "
                "another format, such as png."
            )
        self._target = target
        self._root = target.folder / _FOLDER
        self._names: dict[str, list[str]] = {split: [] for split in target.contents.splits}

    def add(self, image: ExportedImage) -> None:
        if len(image.objects) > _MOST:
            raise ConfigError(
                f"The image {image.image_id} has {len(image.objects):,} objects, and VOC's label "
                f"maps hold {_MOST}: choose another format, such as png."
            )
        self._target.images.put(image, f"{_FOLDER}/JPEGImages")
        self._names[image.split].append(image.stem)
        write_xml(self._root / "Annotations" / f"{image.stem}.xml", self._described(image))
        for folder, values in (
            ("SegmentationClass", image.label_map(_IGNORED)),
            ("SegmentationObject", image.object_map(_IGNORED)),
        ):
            path = self._root / folder / f"{image.stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_indexed(path, values)

    def finish(self) -> None:
        names = dict(self._names)
        if {"train", "val"} <= names.keys():
            names.setdefault("trainval", names["train"] + names["val"])
        for folder in ("Main", "Segmentation"):
            (self._root / "ImageSets" / folder).mkdir(parents=True, exist_ok=True)
            for split, stems in names.items():
                text = "".join(f"{stem}\n" for stem in sorted(stems))
                (self._root / "ImageSets" / folder / f"{split}.txt").write_text(text, "utf-8")
        write_categories(self._target.contents, self._target.folder / "categories.json")

    def close(self) -> None:
        """Nothing is open between images."""

    def _described(self, image: ExportedImage) -> Element:
        root = Element("annotation")
        add_texts(root, {"folder": "VOC2012", "filename": f"{image.stem}.jpg"})
        add_texts(SubElement(root, "source"), {"database": self._target.contents.name})
        size = {"width": image.width, "height": image.height, "depth": 3}
        add_texts(SubElement(root, "size"), size)
        add_texts(root, {"segmented": 1})
        for each in image.objects:
            found = SubElement(root, "object")
            name = self._target.contents.category(each.label).name
            add_texts(found, {"name": name, "pose": "Unspecified", "truncated": 0, "difficult": 0})
            left, top, width, height = each.box
            # VOC counts pixels from 1 on, and the last one is inside.
            box = {"xmin": left + 1, "ymin": top + 1, "xmax": left + width, "ymax": top + height}
            add_texts(SubElement(found, "bndbox"), box)
        return root


def _write_indexed(path: Path, values: npt.NDArray[np.uint16]) -> None:
    image = Image.fromarray(values.astype(np.uint8), mode="P")
    image.putpalette(_palette().tobytes())
    image.save(path, "PNG")


def _palette() -> npt.NDArray[np.uint8]:
    """VOC's colours, uint8 [256, 3]: the bits of a number, three by three, are those of red, green
    and blue from the highest on."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = (numbers >> (3 * place + channel)) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours
