"""Lists of near-duplicates that another tool has found: tables of images and their groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from storage.access.credentials import refuse_secrets
from storage.artifacts.fingerprints import digest
from storage.containers.table_files import (
    column_names,
    open_table,
    table_batches,
    table_errors,
    text_values,
)
from storage.corpora.columns import PLACE_COLUMNS, require_one
from storage.corpora.lists import json_object, numbered_lines
from storage.corpora.tables import Places
from storage.errors.exceptions import CorpusError
from storage.files.file_kinds import TABLE_EXTENSIONS, extension_of
from storage.files.filesystems import display, is_local, local_uri
from storage.files.user_files import user_path

_GROUP, _IMAGE_ID = "group", "image_id"
_IMAGE_IDS = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class DuplicateGroups:
    """Groups of images that show the same.

    Attributes:
        by_id: the name of the group, by image_id.
        by_uri: likewise, by URI.
    """

    by_id: dict[str, str]
    by_uri: dict[str, str]

    def __len__(self) -> int:
        return len(self.by_id) + len(self.by_uri)

    @property
    def digest(self) -> str:
        """Digest of the content, which does not depend on its order or the file's format."""
        return digest({"by_id": self.by_id, "by_uri": self.by_uri})


def read_groups(spec: str) -> DuplicateGroups:
    """Read a `.parquet`, `.csv`, `.tsv` or `.jsonl` file of images and their groups.

    Its column `group` has the name or number of the group of each image. Its column `image_id` has
    the image (the sha256 of its bytes), or else one of the columns that tables of images have
    (`uri`, `file_name`, …) or `path`, with a path, relative to the file, or an address. Images
    without a group are left out.

    Args:
        spec: path or URI of the file.

    Raises:
        ConfigError: the address carries a secret.
        CorpusError: it is no such file, or an image is in two groups.
        StorageError: it can't be read.
    """
    uri = _uri(spec)
    places = Places(uri)
    groups = DuplicateGroups({}, {})
    for where, column, name, group in _rows(uri):
        if not group:
            continue
        if not name:
            raise CorpusError(
                f"{display(uri)} has a group but no image in {where}; give the image in the column "
                f"{display(column)}."
            )
        if column == _IMAGE_ID:
            if not _IMAGE_IDS.fullmatch(name):
                raise CorpusError(
                    f"{display(uri)} has {display(name)!r} for an image_id in {where}; an image_id "
                    "is the sha256 of an image's bytes, 64 hex digits."
                )
            known, key = groups.by_id, name
        else:
            known, key = groups.by_uri, places.uri_of(name)
        if known.setdefault(key, group) != group:
            raise CorpusError(
                f"{display(uri)} has the image {display(name)} in two groups, "
                f"{display(known[key])!r} and {display(group)!r} ({where}); leave one of them, or "
                "make one group of both."
            )
    if not groups:
        raise CorpusError(f"{display(uri)} names no image that is in a group; name another file.")
    return groups


def _uri(spec: str) -> str:
    if is_local(spec):
        uri = local_uri(str(user_path(spec)) if spec.startswith("~") else spec)
    else:
        refuse_secrets(spec)
        uri = spec
    if extension_of(uri) not in {*TABLE_EXTENSIONS, "jsonl"}:
        raise CorpusError(
            f"A list of duplicates is a .parquet, .csv, .tsv or .jsonl file, and {display(uri)} is "
            "none of these."
        )
    return uri


_Row = tuple[str, str, str, str]
"""Where a row is, such as `line 3`; the column of its image; image and group, '' for none."""


def _rows(uri: str) -> Iterator[_Row]:
    yield from _lines(uri) if extension_of(uri) == "jsonl" else _table_rows(uri)


def _lines(uri: str) -> Iterator[_Row]:
    column = ""
    for number, line in numbered_lines(uri):
        row = json_object(uri, number, line)
        column = column or _image_column(uri, list(row))
        yield f"line {number}", column, _text(row.get(column)), _text(row.get(_GROUP))


def _table_rows(uri: str) -> Iterator[_Row]:
    number = 0
    with open_table(uri) as file, table_errors(uri):
        names = column_names(uri, file, {})
        column = _image_column(uri, names)
        for name in (column, _GROUP):
            require_one(uri, names, name)
        file.seek(0)
        for batch in table_batches(uri, file, [column, _GROUP], {}):
            images, groups = (
                text_values(batch.column(name).cast(pa.string())) for name in (column, _GROUP)
            )
            for image, group in zip(images, groups, strict=True):
                number += 1
                yield f"row {number}", column, _text(image), _text(group)


def _text(value: Any) -> str:
    """A name or number as text; '' for none, and for what is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def _image_column(uri: str, names: Sequence[str]) -> str:
    have = f"its columns are {', '.join(map(display, names)) or 'none'}"
    if _GROUP not in names:
        raise CorpusError(
            f"{display(uri)} has no column `{_GROUP}` ({have}); call the one with the groups so."
        )
    for name in (_IMAGE_ID, "uri"):
        if name in names:
            return name
    found = [name for name in names if name.casefold() in {*PLACE_COLUMNS, "path"}]
    if len(set(found)) != 1:
        several = "several columns that may name" if found else "no column that names"
        raise CorpusError(
            f"{display(uri)} has {several} its images ({have}); call the right one `{_IMAGE_ID}`, "
            "`uri` or `path`, and no other."
        )
    return found[0]
