"""What all formats have in common: where they write to, and how they are given images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias

from tasks.exporting.contents import Contents
from tasks.exporting.exported import ExportedImage
from tasks.exporting.image_files import ImageFiles

MaskForm: TypeAlias = Literal["polygons", "rle"]


@dataclass(frozen=True, eq=False)
class Target:
    """Where and how a format writes.

    Attributes:
        folder: an empty one.
        contents: what is exported; the images are given one by one.
        images: puts images into the folder.
        masks: outlines, or pixels in run lengths or the format's own form of them.
        losses: labels that the format could not hold exactly, counted by what became of them.
    """

    folder: Path
    contents: Contents
    images: ImageFiles
    masks: MaskForm
    losses: Counter[str] = field(default_factory=Counter)


class Writer(Protocol):
    """Writes a format. Images come in any order of splits, each once."""

    def add(self, image: ExportedImage) -> None:
        """Write an image and its labels, of which there may be none.

        Raises:
            ConfigError: the format can't hold it.
            OSError: the folder can't be written.
        """

    def finish(self) -> None:
        """Write the rest, after the last image."""

    def close(self) -> None:
        """Close what is open, whether or not `finish` was reached."""


class JsonListFile:
    """A JSON file around one long list, which is written item by item.

    Args:
        path: of the file.
        head: the text before the list's items, such as `{"annotations": [`.
    """

    def __init__(self, path: Path, head: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")
        self._file.write(head)
        self._separator = "\n"

    def add(self, item: Mapping[str, Any]) -> None:
        self._file.write(f"{self._separator}{as_json(item)}")
        self._separator = ",\n"

    def finish(self, tail: str) -> None:
        """Write the text after the items, such as `]}`, and close the file."""
        self._file.write(f"\n{tail}\n")
        self._file.close()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def as_json(value: Any) -> str:
    """A JSON text on one line; half a pair of surrogates in a name is escaped, as UTF-8 needs."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_json(path: Path, value: Any) -> None:
    """A JSON file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{as_json(value)}\n", encoding="utf-8")


def write_categories(contents: Contents, path: Path, numbers: Sequence[int] | None = None) -> None:
    """A JSON list of the categories, for formats that don't say which label is which.

    Args:
        contents: of the export; path: of the file.
        numbers: the values in the format's files, in the order of the labels; None: the labels.
    """
    values = numbers or [each.label for each in contents.categories]
    write_json(
        path,
        [
            {"value": value, "name": each.name, "id": each.number, "external_id": each.external_id}
            for value, each in zip(values, contents.categories, strict=True)
        ],
    )
