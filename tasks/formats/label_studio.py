"""Label Studio's tasks with brush masks as pre-annotations."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement

from tasks.exporting.exported import ExportedImage, ExportedObject
from tasks.formats.writer import JsonListFile, Target
from tasks.formats.xml_files import write_xml, xml_text
from tasks.mask_forms.run_lists import brush_bytes

_TOOL: Final = "tag"
_IMAGE: Final = "image"
_LOCAL_FILES: Final = "/data/local-files/?d="


class LabelStudioWriter:
    """Writes `tasks_SPLIT.json`, the labelling interface `config.xml`, and `images/SPLIT/`.

    Addresses of images are those of Label Studio's local files, relative to the folder.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._files = {
            split: JsonListFile(target.folder / f"tasks_{split}.json", "[")
            for split in target.contents.splits
        }

    def add(self, image: ExportedImage) -> None:
        name = self._target.images.put(image, f"images/{image.split}")
        results = [self._result(each, n, image) for n, each in enumerate(image.objects)]
        prediction: dict[str, Any] = {"model_version": "zutis", "result": results}
        qualities = [each.quality for each in image.objects if each.quality is not None]
        if qualities:
            prediction["score"] = min(qualities)
        self._files[image.split].add(
            {
                "data": {_IMAGE: f"{_LOCAL_FILES}{quote(name)}", "image_id": image.image_id},
                "predictions": [prediction],
                "meta": {"source": image.source},
            }
        )

    def finish(self) -> None:
        for file in self._files.values():
            file.finish("]")
        view = Element("View")
        SubElement(view, "Image", {"name": _IMAGE, "value": f"${_IMAGE}", "zoom": "true"})
        labels = SubElement(view, "BrushLabels", {"name": _TOOL, "toName": _IMAGE})
        for category in self._target.contents.categories:
            SubElement(labels, "Label", {"value": xml_text(category.name)})
        write_xml(self._target.folder / "config.xml", view)

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _result(self, each: ExportedObject, place: int, image: ExportedImage) -> dict[str, Any]:
        name = xml_text(self._target.contents.category(each.label).name)
        result: dict[str, Any] = {
            "id": f"{each.mask_id[:12]}-{place}",
            "type": "brushlabels",
            "from_name": _TOOL,
            "to_name": _IMAGE,
            "original_width": image.width,
            "original_height": image.height,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": brush_bytes(each.pixels()), "brushlabels": [name]},
        }
        return result if each.quality is None else result | {"score": each.quality}
