"""The images of a container, a zip or a table: which of its members they are, and their bytes."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from storage.containers.members import Member
from storage.containers.refusals import rejected_where_unreadable
from storage.containers.table_files import open_table
from storage.corpora.label_maps import (
    is_in_label_map_folder,
    is_label_map_beside,
    is_palette_png,
    label_map_keys,
    photograph_keys,
)
from storage.corpora.listing import ARROW, EXCLUDED, ZIP, count_other_file
from storage.corpora.selection import Selection
from storage.errors.exceptions import ImageRejected
from storage.errors.reject_reasons import (
    DUPLICATE_MEMBER,
    HIDDEN_MEMBER,
    LABEL_MAP,
    UNSAFE_MEMBER_NAME,
)
from storage.files.file_kinds import extension_of, is_hidden, is_image
from storage.files.filesystems import open_binary
from storage.images.decoding import looks_like_image

WHOLE_FILE = -1


@dataclass(frozen=True)
class ImageBytes:
    """An image's bytes, or the reason why there are none.

    Attributes:
        uri: of the image's file, or of the container that it is in.
        offset: its place in the container, in a tar its first byte, see
            `storage.containers.members`; -1 for the whole file.
        length: number of bytes; -1 where not known.
        data: the bytes; None exactly where there is a reject reason.
        reject_reason: one of REJECT_REASONS, or None.
        member: the name in the container (bytes that are not UTF-8 as `\\xNN`); '' for a file.
    """

    uri: str
    offset: int
    length: int
    data: bytes | None
    reject_reason: str | None
    member: str = ""


def container_images(
    uri: str, kind: str, max_bytes: int, others: Counter[str], selection: Selection
) -> Iterator[ImageBytes]:
    """The images of a zip, or of an Arrow or Parquet file, each read once, in order.

    Args:
        uri, kind: of the listing's entry.
        max_bytes: a larger image is rejected and not read.
        others: to which members that are no images are added, and those that are left out.
        selection: which members are read, by their names.

    Raises:
        StorageError: the file system can't be used at all.
    """
    try:
        if kind == ZIP:
            with rejected_where_unreadable(uri):
                file = open_binary(uri)
            with file:
                yield from _zip_images(uri, file, max_bytes, others, selection)
        else:
            with rejected_where_unreadable(uri), open_table(uri) as table:
                for member in _rows(kind, table, max_bytes):
                    if not selection.takes(member.name):
                        others[EXCLUDED] += 1
                        continue
                    yield _image(uri, member)
    except ImageRejected as rejected:
        yield ImageBytes(uri, WHOLE_FILE, -1, None, rejected.reason)


def _rows(kind: str, table: object, max_bytes: int) -> Iterator[Member]:
    if kind == ARROW:
        from storage.containers.arrow_images import arrow_images as images
    else:
        from storage.containers.parquet_images import parquet_images as images
    return images(table, max_bytes)


def _image(uri: str, member: Member) -> ImageBytes:
    try:
        data = member.read()
    except ImageRejected as rejected:
        return _rejected(uri, member, rejected.reason)
    return ImageBytes(uri, member.offset, member.length, data, None, _shown(member))


def _rejected(uri: str, member: Member, reason: str) -> ImageBytes:
    return ImageBytes(uri, member.offset, member.length, None, reason, _shown(member))


def _shown(member: Member) -> str:
    return member.name.encode("utf-8", "backslashreplace").decode("utf-8")


def _zip_images(
    uri: str, file: object, max_bytes: int, others: Counter[str], selection: Selection
) -> Iterator[ImageBytes]:
    from storage.containers.zips import zip_members

    with rejected_where_unreadable(uri):
        members = zip_members(file, max_bytes)  # type: ignore[arg-type]
    judge = _Judge(members)
    for member in members:
        if member.is_link:
            others["link"] += 1
            continue
        if not is_image(member.name) and extension_of(member.name):
            judge.count_other(member.name, others)
            continue
        try:
            name = judge.checked_name(member)
            if not selection.takes(name):
                others[EXCLUDED] += 1
                continue
            with rejected_where_unreadable(uri):
                data = member.read()
            judge.check_content(name, data)
        except ImageRejected as rejected:
            if extension_of(member.name):
                yield _rejected(uri, member, rejected.reason)
            else:
                judge.count_other(member.name, others)
            continue
        if extension_of(name) or looks_like_image(data):
            yield ImageBytes(uri, member.offset, member.length, data, None, _shown(member))
        else:
            judge.count_other(name, others)


class _Judge:
    """Decides by names, all of which a zip's directory has, what is an image of the corpus."""

    def __init__(self, members: list[Member]) -> None:
        names = [posixpath.normpath(member.name) for member in members]
        self._names = frozenset(names)
        self._photographs = frozenset(key for name in names for key in photograph_keys(name))
        self._met: set[str] = set()

    def checked_name(self, member: Member) -> str:
        if member.name.startswith("/") or ".." in member.name.split("/"):
            raise ImageRejected(UNSAFE_MEMBER_NAME)
        name = posixpath.normpath(member.name)
        if name in self._met:
            raise ImageRejected(DUPLICATE_MEMBER)
        self._met.add(name)
        if any(is_hidden(part) for part in name.split("/")):
            raise ImageRejected(HIDDEN_MEMBER)
        if is_in_label_map_folder(name) or is_label_map_beside(name, self._names.__contains__):
            raise ImageRejected(LABEL_MAP)
        return name

    def check_content(self, name: str, data: bytes) -> None:
        is_map = is_palette_png(data) and extension_of(name) == "png"
        if is_map and any(key in self._photographs for key in label_map_keys(name)):
            raise ImageRejected(LABEL_MAP)

    def count_other(self, name: str, others: Counter[str]) -> None:
        if any(is_hidden(part) for part in posixpath.normpath(name).split("/")):
            others["hidden file"] += 1
        else:
            count_other_file(name, others)
