"""The formats by name, and the export to one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage.errors.exceptions import ConfigError
from tasks.exporting.contents import Contents
from tasks.exporting.folder import mark, new_export
from tasks.exporting.image_files import ImageFiles, ImageMode
from tasks.formats.coco import CocoWriter
from tasks.formats.cvat import CvatWriter
from tasks.formats.fiftyone import FiftyOneWriter
from tasks.formats.flat_tables import TableWriter
from tasks.formats.hugging_face import HuggingFaceWriter
from tasks.formats.label_studio import LabelStudioWriter
from tasks.formats.labelme import LabelmeWriter
from tasks.formats.png_folders import PngWriter
from tasks.formats.voc import VocWriter
from tasks.formats.writer import MaskForm, Target, Writer
from tasks.formats.yolo_seg import YoloWriter
from tasks.stage.contract import Progress


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        writer: makes one that writes to a target.
        masks: forms of masks that it has, the one that is taken by default first.
        images: what it can do with images.
    """

    writer: Callable[[Target], Writer]
    masks: tuple[MaskForm, ...]
    images: tuple[ImageMode, ...] = ("copy", "link")


_ANYWHERE: Final[tuple[ImageMode, ...]] = ("copy", "link", "paths")

FORMATS: Final[Mapping[str, Format]] = {
    "coco": Format(CocoWriter, ("polygons", "rle"), _ANYWHERE),
    "yolo-seg": Format(YoloWriter, ("polygons",)),
    "voc": Format(VocWriter, ("rle",)),
    "png": Format(PngWriter, ("rle",)),
    "parquet": Format(TableWriter, ("rle",), _ANYWHERE),
    "hf": Format(HuggingFaceWriter, ("rle",), ("copy",)),
    "cvat": Format(CvatWriter, ("rle", "polygons")),
    "label-studio": Format(LabelStudioWriter, ("rle",)),
    "labelme": Format(LabelmeWriter, ("rle", "polygons"), _ANYWHERE),
    "fiftyone": Format(FiftyOneWriter, ("rle", "polygons"), _ANYWHERE),
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        images, labels: how many.
        files: images by what became of them.
        losses: labels that the format could not hold exactly, by what became of them.
    """

    images: int
    labels: int
    files: Mapping[ImageMode, int]
    losses: Mapping[str, int]


def check_choices(name: str, masks: str, images: ImageMode) -> None:
    """Check that a format has a form of masks (`auto`: its own) and a way with images.

    Raises:
        ConfigError: it hasn't.
    """
    chosen = FORMATS[name]
    if masks != "auto" and masks not in chosen.masks:
        able = [other for other, each in FORMATS.items() if masks in each.masks]
        raise ConfigError(
            f"masks is {masks}, and {name} has {' and '.join(chosen.masks)}: leave it out, or "
            f"choose {' or '.join(able)}."
        )
    if images not in chosen.images:
        able = [other for other, each in FORMATS.items() if images in each.images]
        raise ConfigError(
            f"images is {images}, and {name} can {' or '.join(chosen.images)} them: choose one of "
            f"these, or {' or '.join(able)}."
        )


def export(
    contents: Contents,
    name: str,
    out: Path,
    *,
    masks: str = "auto",
    images: ImageMode = "copy",
    overwrite: bool = False,
    progress: Progress,
) -> Exported:
    """Write an export. Equal contents give equal bytes.

    Args:
        contents: what is exported.
        name: of the format.
        out: the folder, of `folder.place_of`; if anything goes wrong, it stays as it was.
        masks: `polygons`, `rle`, or `auto`: what the format takes by default.
        images: what becomes of the images.
        overwrite: an older export may be replaced.
        progress: advanced by each image.

    Raises:
        ArtifactError: a sample is damaged.
        ConfigError: the format can't hold the contents; or as `folder.check_folder`.
        StorageError: a shard can't be read, or the folder can't be written.
    """
    check_choices(name, masks, images)
    chosen = FORMATS[name]
    form = next(each for each in chosen.masks if masks in ("auto", each))
    labels = 0
    with new_export(out, overwrite=overwrite) as folder:
        files = ImageFiles(folder, images)
        target = Target(folder, contents, files, form)
        with closing(chosen.writer(target)) as writer:
            for image in contents.read():
                writer.add(image)
                labels += len(image.objects)
                progress.advance(1)
            writer.finish()
        facts = {"format": name, "dataset": contents.key, "name": contents.name}
        mark(folder, {**facts, "images": contents.counts(), "labels": labels})
    return Exported(len(contents.images), labels, dict(files.counts), dict(target.losses))
