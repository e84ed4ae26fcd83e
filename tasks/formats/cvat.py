"""CVAT's XML 1.1 for images, as a project with subsets."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from tasks.exporting.exported import ExportedImage, ExportedObject
from tasks.formats.writer import Target
from tasks.formats.xml_files import add_texts, xml_text
from tasks.mask_forms.outlines import corner_polygons
from tasks.mask_forms.run_lists import reading_order_runs

_QUALITY: Final = "quality"


class CvatWriter:
    """Writes `annotations.xml` and images into `images/SPLIT/`.

    Polygons are one shape a piece; those of an object have one `group_id`.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._file = (target.folder / "annotations.xml").open("w", encoding="utf-8")
        self._file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
        version = Element("version")
        version.text = "1.1"
        self._write(version)
        self._write(self._meta())
        self._number = 0

    def add(self, image: ExportedImage) -> None:
        self._target.images.put(image, f"images/{image.split}")
        facts = {
            "id": str(self._number),
            "name": f"{image.stem}.jpg",
            "subset": image.split,
            "width": str(image.width),
            "height": str(image.height),
        }
        root = Element("image", facts)
        # Those that hide others come last, with the highest order.
        for place, each in enumerate(reversed(image.objects)):
            self._add_shapes(root, each, order=place, group=len(image.objects) - place)
        self._write(root)
        self._number += 1

    def finish(self) -> None:
        self._file.write("</annotations>\n")
        self._file.close()

    def close(self) -> None:
        self._file.close()

    def _write(self, element: Element) -> None:
        indent(element, " ")
        self._file.write(f"{tostring(element, encoding='unicode')}\n")

    def _meta(self) -> Element:
        contents = self._target.contents
        meta = Element("meta")
        project = SubElement(meta, "project")
        add_texts(project, {"name": contents.name})
        subsets = SubElement(project, "subsets")
        for split in contents.splits:
            add_texts(subsets, {"subset": split})
        labels = SubElement(project, "labels")
        for category in contents.categories:
            label = SubElement(labels, "label")
            add_texts(label, {"name": category.name, "type": "any"})
            attribute = SubElement(SubElement(label, "attributes"), "attribute")
            facts = {"mutable": "False", "input_type": "text", "default_value": "", "values": ""}
            add_texts(attribute, {"name": _QUALITY, **facts})
        return meta

    def _add_shapes(self, root: Element, each: ExportedObject, *, order: int, group: int) -> None:
        facts = {
            "label": xml_text(self._target.contents.category(each.label).name),
            "source": "auto",
            "occluded": "0",
            "z_order": str(order),
        }
        if self._target.masks == "rle":
            shapes = [SubElement(root, "mask", facts | _run_lengths(each))]
        else:
            facts["group_id"] = str(group)
            shapes = [
                SubElement(root, "polygon", facts | {"points": _points(polygon.tolist())})
                for polygon in corner_polygons(each.pixels())
            ]
        for shape in shapes:
            if each.quality is not None:
                SubElement(shape, "attribute", {"name": _QUALITY}).text = str(each.quality)


def _run_lengths(each: ExportedObject) -> dict[str, str]:
    """The run lengths of the mask inside its box."""
    left, top, width, height = each.box
    runs = reading_order_runs(each.pixels()[top : top + height, left : left + width])
    box = {"left": left, "top": top, "width": width, "height": height}
    return {"rle": ", ".join(map(str, runs))} | {name: str(side) for name, side in box.items()}


def _points(corners: list[list[int]]) -> str:
    return ";".join(f"{x:.2f},{y:.2f}" for x, y in corners)
