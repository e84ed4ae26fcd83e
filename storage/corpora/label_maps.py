"""Recognition of label maps among a corpus's PNGs: annotations stored beside photographs.

Names alone decide for `STEM.mask.png` beside a photograph, and for PNGs in VOC's folders of label
maps. A PNG with a palette is a label map if a photograph of its name is beside it, or at the same
place in a sibling of its folder: `JPEGImages/480p/bear/0.jpg` and `Annotations/480p/bear/0.png`
(DAVIS). All rules need other files, so that a single drawing is never taken for a label map.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from storage.files.file_kinds import extension_of

# The folders of label maps in the layout of PASCAL VOC.
_VOC_FOLDERS = frozenset({"SegmentationClass", "SegmentationObject"})
_LABEL_MAP_END = ".mask.png"
# Formats of photographs; beside a GIF of its name, a PNG with a palette is the same drawing.
_PHOTOGRAPHS = ("jpg", "jpeg", "jpe", "jfif", "webp", "tif", "tiff", "bmp", "avif", "jp2")
# Siblings by name only: numbered images of two folders have equal names by chance.
# fmt: off
_LABEL_MAP_FOLDERS = frozenset({
    "annotation", "annotations", "label", "labels", "mask", "masks", "seg", "segmentation",
    "segmentations", "segmentationclass", "segmentationobject", "segmentationclassaug", "gt",
    "groundtruth", "ground_truth", "trimaps",
})
_IMAGE_FOLDERS = frozenset({
    "image", "images", "img", "imgs", "jpegimages", "jpgs", "photo", "photos", "photographs",
    "picture", "pictures", "rgb",
})
# fmt: on
_PNG_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_COLOUR_TYPE = 25  # the byte of it in the file
HEAD_BYTES = 32
"""Bytes of a file that `is_palette_png` reads."""


def is_label_map_beside(name: str, exists: Callable[[str], bool]) -> bool:
    """Whether `STEM.mask.png` has a photograph `STEM.jpg` or the like beside it.

    Args:
        name: of the file or member, with or without its folder; its extension in any case.
        exists: whether there is a file of a name, given with the folder that `name` has.
    """
    if not is_named_label_map(name):
        return False
    stem = name[: -len(_LABEL_MAP_END)]
    return any(
        exists(f"{stem}.{spelling}")
        for extension in (*_PHOTOGRAPHS, "png")
        for spelling in (extension, extension.upper(), extension.title())
    )


def is_named_label_map(name: str) -> bool:
    """Whether the name ends in `.mask.png`, in any case."""
    return name.lower().endswith(_LABEL_MAP_END)


def is_in_label_map_folder(path: str) -> bool:
    """Whether the PNG at `path` is in one of VOC's folders of label maps."""
    folder = path.rpartition("/")[0].rpartition("/")[2]
    return folder in _VOC_FOLDERS and extension_of(path) == "png"


def is_palette_png(head: bytes) -> bool:
    """Whether a file with these first `HEAD_BYTES` bytes is a PNG with a palette."""
    return head.startswith(_PNG_HEAD) and head[_COLOUR_TYPE : _COLOUR_TYPE + 1] == b"\x03"


def photograph_keys(path: str) -> Iterator[str]:
    """The keys under which label maps find the image at `path`, relative to the corpus."""
    extension = extension_of(path)
    if extension in _PHOTOGRAPHS:
        yield _stem(path)
    if (place := _place_among_siblings(path, _IMAGE_FOLDERS)) is not None:
        yield place


def label_map_keys(path: str) -> Iterator[str]:
    """The keys under which a PNG with a palette at `path` finds its photograph.

    It is a label map if one of these is a key of `photograph_keys`.
    """
    if extension_of(path) == "png":
        yield _stem(path)
        if (place := _place_among_siblings(path, _LABEL_MAP_FOLDERS)) is not None:
            yield place


def _place_among_siblings(path: str, names: Collection[str]) -> str | None:
    """The path without its extension, and without the name of the first folder out of `names`."""
    folders = path.split("/")[:-1]
    for number, folder in enumerate(folders):
        if folder.casefold() in names:
            rest = _stem(path).split("/")[number + 1 :]
            return "/".join([*folders[:number], "\0", *rest])  # no file is called so
    return None


def _stem(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"
