"""The bytes of images, from files of their own or from members of tars and other containers.

An image's place is `uri, offset, length`. `offset == -1` stands for the whole file; else the bytes
are a member's of the container at `uri`: in a tar, a range of bytes; in others as
`storage.containers.members` says. `length == -1` stands for a length that is not known.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

from storage.containers.places import read_member
from storage.containers.refusals import rejected_where_unreadable
from storage.corpora.container_images import WHOLE_FILE, ImageBytes, container_images
from storage.corpora.label_maps import (
    is_in_label_map_folder,
    is_label_map_beside,
    is_named_label_map,
    is_palette_png,
    label_map_keys,
    photograph_keys,
)
from storage.corpora.listing import EXCLUDED, IMAGE, TAR, count_other_file
from storage.corpora.selection import ALL, Selection
from storage.errors.exceptions import ImageRejected
from storage.errors.reject_reasons import (
    CHANGED,
    DUPLICATE_MEMBER,
    EMPTY_FILE,
    FILE_TOO_LARGE,
    HIDDEN_MEMBER,
    LABEL_MAP,
    NOT_A_FILE,
    NOT_A_TAR,
    OUTSIDE_ROOTS,
    TRANSIENT,
    TRUNCATED_TAR,
    UNREADABLE,
    UNSAFE_MEMBER_NAME,
)
from storage.files.file_kinds import extension_of, is_hidden, is_image, is_web
from storage.files.filesystems import (
    describe,
    is_local,
    is_outside,
    local_path,
    open_binary,
    read_bytes,
    resolve,
)
from storage.images.decoding import HEAD_BYTES, looks_like_image

__all__ = ["MAX_BYTES", "WHOLE_FILE", "ImageBytes", "iter_entry", "read_image_bytes"]

MAX_BYTES = 512 * 2**20

# Read between a tar's end mark and the end of its file, or the next tar.
_ZEROS_AT_ONCE = 2**18
# No tar is written in blocks of gigabytes: zeros are not read for hours.
_MOST_ZEROS = 2**28

# A long name or a set of attributes; only damage or malice makes a larger one.
_MAX_EXTENDED_HEADER = 2**20
_EXTENDED_HEADERS = frozenset(
    {
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    }
)


def iter_entry(
    uri: str,
    kind: str,
    *,
    size: int = -1,
    max_bytes: int = MAX_BYTES,
    others: Counter[str] | None = None,
    selection: Selection = ALL,
) -> Iterator[ImageBytes]:
    """The images of one entry of a listing, each read once, a container from front to back.

    Of a tar's members, those count that are files (no links) with an image's extension, or with
    none and an image's first bytes. A fault of one image or one tar is an item with a
    reject reason. PNGs that may be label maps wait for the end of the tar, as their photographs
    may come after them.

    Args:
        uri: of the image or container.
        kind: `image`, `tar`, `zip`, `arrow` or `parquet`.
        size: of the file in bytes where the listing knows it, which saves a remote file system
            from being asked for it.
        max_bytes: a larger image is rejected and not read.
        others: to which a container's other members are added, as `Listing.ignored` counts files,
            and `link` for links.
        selection: which members of a container are read, by their names; the others are added to
            `others`.

    Raises:
        StorageError: the file system can't be used at all, which is no fault of the image.
    """
    if is_outside(uri):
        yield ImageBytes(uri, WHOLE_FILE, -1, None, OUTSIDE_ROOTS)
        return
    if not is_local(uri):
        resolve(uri)  # a missing package ends the run, and does not reject every image
    if kind == IMAGE:
        yield _whole_file(uri, size, max_bytes)
        return
    read = _iter_tar if kind == TAR else partial(container_images, kind=kind)
    others = Counter() if others is None else others
    yield from read(uri, max_bytes=max_bytes, others=others, selection=selection)


def read_image_bytes(uri: str, offset: int, length: int) -> bytes:
    """The image's bytes once more, by the place that `iter_entry` gave.

    Raises:
        ImageRejected: `missing`, `unreadable`, one of `TRANSIENT`, or `changed` where the file no
            longer holds as many bytes. Whether they are the same bytes is for the caller to check
            by image_id.
        StorageError: the file system can't be used at all.
    """
    if is_outside(uri):
        raise ImageRejected(OUTSIDE_ROOTS)
    if not is_local(uri):
        resolve(uri)
    with rejected_where_unreadable(uri):
        if offset != WHOLE_FILE:
            return read_member(uri, offset, length)
        data = read_bytes(uri, at_most=max(length, MAX_BYTES))
    if length not in (-1, len(data)):
        raise ImageRejected(CHANGED, f"{len(data)} bytes instead of {length}")
    return data


def _whole_file(uri: str, size: int, max_bytes: int) -> ImageBytes:
    data = None
    try:
        with rejected_where_unreadable(uri):
            size = _file_size(uri, size)
            if size > max_bytes:
                raise ImageRejected(FILE_TOO_LARGE)
            data = read_bytes(uri, at_most=max_bytes)
        if not data:
            raise ImageRejected(EMPTY_FILE)
    except ImageRejected as rejected:
        length = size if data is None else len(data)
        return ImageBytes(uri, WHOLE_FILE, length, None, rejected.reason)
    return ImageBytes(uri, WHOLE_FILE, len(data), data, None)


def _file_size(uri: str, known: int) -> int:
    """Bytes, -1 where the server doesn't state it or it would take a request of its own."""
    if is_local(uri):
        return _regular_size(uri)
    if known >= 0 or is_web(uri):
        return known
    size = describe(uri).get("size")
    return -1 if size is None else int(size)


def _regular_size(uri: str) -> int:
    status = os.stat(local_path(uri))  # noqa: PTH116 - pathlib is slower, and this is per image
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise ImageRejected(NOT_A_FILE)
    return status.st_size


class _CheckedTarInfo(tarfile.TarInfo):
    """Refuses headers on whose sizes tarfile would loop (CVE-2025-8194) or exhaust memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _CheckedTarInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0 or (info.type in _EXTENDED_HEADERS and info.size > _MAX_EXTENDED_HEADER):
            raise tarfile.HeaderError("impossible size")
        return info


def _iter_tar(
    uri: str, max_bytes: int, others: Counter[str], selection: Selection
) -> Iterator[ImageBytes]:
    try:
        with rejected_where_unreadable(uri):
            if is_local(uri):
                _regular_size(uri)
            file = open_binary(uri)
    except ImageRejected as rejected:
        yield ImageBytes(uri, WHOLE_FILE, -1, None, rejected.reason)
        return
    with file:
        yield from _TarReader(uri, file, max_bytes, others, selection).images()


class _TarReader:
    """One pass over an open tar."""

    def __init__(
        self,
        uri: str,
        file: BinaryIO,
        max_bytes: int,
        others: Counter[str],
        selection: Selection,
    ) -> None:
        self._uri = uri
        self._file = file
        self._max_bytes = max_bytes
        self._others = others
        self._selection = selection
        self._size = 0
        self._names: set[str] = set()
        self._names_here: set[str] = set()  # of one of the tars that are written end to end
        self._photographs: set[str] = set()
        self._may_be_label_maps: list[tarfile.TarInfo] = []

    def images(self) -> Iterator[ImageBytes]:
        end = WHOLE_FILE  # of the last whole member: where damage begins
        try:
            tar = self._open()
            while (info := self._next(tar, end)) is not None:
                if self._is_image(info) and (image := self._image(info)) is not None:
                    yield image
                    if image.reject_reason == TRUNCATED_TAR or image.reject_reason in TRANSIENT:
                        break
                end = tar.offset
        except ImageRejected as rejected:
            yield ImageBytes(self._uri, end, -1, None, rejected.reason)
        for info in self._may_be_label_maps:
            yield self._image_at_the_end(info)

    def _open(self) -> tarfile.TarFile:
        try:
            with rejected_where_unreadable(self._uri), _rejected_where_damaged():
                self._file.seek(0, os.SEEK_END)
                self._size = self._file.tell()
                self._file.seek(0)
                return tarfile.TarFile(
                    fileobj=self._file, tarinfo=_CheckedTarInfo, encoding="utf-8"
                )
        except ImageRejected as rejected:
            if rejected.reason != TRUNCATED_TAR:
                raise
            self._file.seek(0)
            reason = NOT_A_TAR if self._file.read(1) else EMPTY_FILE
            raise ImageRejected(reason, rejected.detail) from rejected

    def _next(self, tar: tarfile.TarFile, end: int) -> tarfile.TarInfo | None:
        """The next member; None at the proper end."""
        with rejected_where_unreadable(self._uri), _rejected_where_damaged():
            tar.members = []  # type: ignore[attr-defined]  # tarfile would keep every member
            if end > self._size:  # a seek as far as a header claims may be an error of the disk
                raise tarfile.ReadError("ends early")
            info = tar.next()
            if info is None and self._goes_on(tar) and (info := tar.next()) is None:
                raise tarfile.ReadError("no tar behind the end mark")
            # Sizes that lead back are endless loops, and places are recorded as 64-bit numbers.
            if info is not None and not end <= info.offset < tar.offset < 2**62:
                raise tarfile.ReadError("impossible size")
            return info

    def _goes_on(self, tar: tarfile.TarFile) -> bool:
        """Whether another tar follows the end mark, to which `tar` is moved then.

        Tars that are written end to end (`cat a.tar b.tar`) are common where shards are put
        together. tarfile takes a bad header, and a missing one, for the end, and would with
        `ignore_zeros` skip everything that it can't read; the end is a block of zeros and no less.
        """
        self._file.seek(tar.offset)
        if self._file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end mark")
        start = tar.offset + tarfile.BLOCKSIZE
        while chunk := self._file.read(_ZEROS_AT_ONCE):
            if any(chunk):
                zeros = len(chunk) - len(chunk.lstrip(b"\0"))
                tar.offset = start + zeros // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
                tar.pax_headers = {}  # those of a whole tar end with it
                self._names_here = set()
                return True
            start += len(chunk)
            if start - tar.offset > _MOST_ZEROS:
                raise tarfile.ReadError("zeros without end behind the end mark")
        return False

    def _is_image(self, info: tarfile.TarInfo) -> bool:
        """Whether the member is an image; else it is counted, unless it is a folder."""
        if info.isreg() and (is_image(info.name) or self._begins_as_image(info)):
            return True
        if not info.isdir():
            self._count_other(info)
        return False

    def _count_other(self, info: tarfile.TarInfo) -> None:
        if info.issym() or info.islnk():
            self._others["link"] += 1
        elif not info.isreg():
            self._others["pipe or device"] += 1
        elif any(is_hidden(part) for part in posixpath.normpath(info.name).split("/")):
            self._others["hidden file"] += 1
        else:
            count_other_file(info.name, self._others)

    def _begins_as_image(self, info: tarfile.TarInfo) -> bool:
        if extension_of(info.name) or info.issparse():
            return False
        with rejected_where_unreadable(self._uri):
            self._file.seek(info.offset_data)
            return looks_like_image(self._file.read(min(info.size, HEAD_BYTES)))

    def _image(self, info: tarfile.TarInfo) -> ImageBytes | None:
        """The image; None for one that is left out, or that may be a label map, and waits for the
        end of the tar."""
        try:
            name = self._checked_name(info)
            self._photographs.update(photograph_keys(name))
            if not self._selection.takes(name):
                self._others[EXCLUDED] += 1
                return None
            self._check_bytes(info)
            if is_named_label_map(name):
                self._refuse_label_map(name)
                self._may_be_label_maps.append(info)
                return None
            data = self._read(info)
            if is_palette_png(data) and extension_of(name) == "png":
                self._refuse_label_map(name, data)
                self._may_be_label_maps.append(info)
                return None
        except ImageRejected as rejected:
            return self._rejected(info, rejected)
        return ImageBytes(self._uri, info.offset_data, info.size, data, None, _member(info))

    def _image_at_the_end(self, info: tarfile.TarInfo) -> ImageBytes:
        """The image that `_image` has put off, now that all of the photographs are known."""
        try:
            name = posixpath.normpath(info.name)
            self._refuse_label_map(name)
            data = self._read(info)
            self._refuse_label_map(name, data)
        except ImageRejected as rejected:
            return self._rejected(info, rejected)
        return ImageBytes(self._uri, info.offset_data, info.size, data, None, _member(info))

    def _rejected(self, info: tarfile.TarInfo, rejected: ImageRejected) -> ImageBytes:
        place = info.offset_data, info.size
        return ImageBytes(self._uri, *place, None, rejected.reason, _member(info))

    def _checked_name(self, info: tarfile.TarInfo) -> str:
        if info.name.startswith("/") or ".." in info.name.split("/"):
            raise ImageRejected(UNSAFE_MEMBER_NAME)
        name = posixpath.normpath(info.name)
        if name in self._names_here:
            raise ImageRejected(DUPLICATE_MEMBER)
        self._names_here.add(name)
        self._names.add(name)
        if any(is_hidden(part) for part in name.split("/")):
            raise ImageRejected(HIDDEN_MEMBER)
        if is_in_label_map_folder(name):
            raise ImageRejected(LABEL_MAP)
        return name

    def _check_bytes(self, info: tarfile.TarInfo) -> None:
        if info.issparse():
            raise ImageRejected(UNREADABLE, "a sparse member is not one range of bytes")
        if info.size == 0:
            raise ImageRejected(EMPTY_FILE)
        if info.size > self._max_bytes:
            raise ImageRejected(FILE_TOO_LARGE)
        if info.offset_data + info.size > self._size:
            raise ImageRejected(TRUNCATED_TAR)

    def _refuse_label_map(self, name: str, data: bytes = b"") -> None:
        """Reject the label map of a photograph that has been met; `data`: the member, if read."""
        if is_label_map_beside(name, self._names.__contains__) or (
            is_palette_png(data) and any(key in self._photographs for key in label_map_keys(name))
        ):
            raise ImageRejected(LABEL_MAP)

    def _read(self, info: tarfile.TarInfo) -> bytes:
        with rejected_where_unreadable(self._uri):
            self._file.seek(info.offset_data)
            data = self._file.read(info.size)
        if len(data) != info.size:
            raise ImageRejected(CHANGED, "the tar was cut while it was read")
        return data


def _member(info: tarfile.TarInfo) -> str:
    return info.name.encode("utf-8", "backslashreplace").decode("utf-8")


@contextmanager
def _rejected_where_damaged() -> Iterator[None]:
    """Turns what tarfile raises on bytes that are no tar into `truncated_tar`."""
    try:
        yield
    except (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        raise ImageRejected(TRUNCATED_TAR, str(error)) from error
