"""Zips: their members in the order of their bytes, stored or deflated.

Nothing is written to disk and no member's name is used as a path. Each member is inflated to no
more than the length that the zip states, and members may not overlap, so that a zip can't make more
work than its own size allows.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

from storage.containers.members import Member
from storage.errors.exceptions import ImageRejected
from storage.errors.reject_reasons import (
    CHANGED,
    DAMAGED_MEMBER,
    EMPTY_FILE,
    ENCRYPTED_MEMBER,
    FILE_TOO_LARGE,
    NOT_A_ZIP,
    UNSUPPORTED_COMPRESSION,
)
from storage.files.filesystems import open_binary

_ENCRYPTED = 0x1  # of a member's flags
_HEADER_BYTES = 30
_HEADER_MARK = b"PK\x03\x04"
_BYTES_AT_ONCE = 2**18


def zip_members(file: BinaryIO, max_bytes: int) -> list[Member]:
    """The members that are no folders, by the position of their bytes; none is read.

    Args:
        file: the open zip, which `Member.read` reads from.
        max_bytes: of the largest member that is read.

    Raises:
        ImageRejected: `not_a_zip`.
        Exception: foreign errors of reading.
    """
    with _rejected_where_damaged(NOT_A_ZIP):
        directory = zipfile.ZipFile(file)
    infos = sorted(directory.infolist(), key=lambda info: info.header_offset)
    ends = [info.header_offset for info in infos[1:]] + [directory.start_dir]
    return [
        Member(
            name=info.filename,
            offset=info.header_offset,
            length=info.file_size,
            read=partial(_read, file, info, end, max_bytes),
            is_link=stat.S_ISLNK(info.external_attr >> 16),
        )
        for info, end in zip(infos, ends, strict=True)
        if not info.is_dir()
    ]


def read_zip_member(uri: str, offset: int, length: int) -> bytes:
    """The `length` bytes of the member whose header is at byte `offset`, at once.

    Raises:
        ImageRejected: `changed` where no such member is there.
        StorageError: the zip can't be opened; other errors are foreign.
    """
    with open_binary(uri) as file, _rejected_where_damaged(CHANGED):
        return _member_bytes(file, offset, length)


def _read(file: BinaryIO, info: zipfile.ZipInfo, end: int, max_bytes: int) -> bytes:
    if info.flag_bits & _ENCRYPTED:
        raise ImageRejected(ENCRYPTED_MEMBER)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ImageRejected(UNSUPPORTED_COMPRESSION)
    if info.file_size == 0:
        raise ImageRejected(EMPTY_FILE)
    if info.file_size > max_bytes:
        raise ImageRejected(FILE_TOO_LARGE)
    if info.header_offset + _HEADER_BYTES + info.compress_size > end:
        raise ImageRejected(DAMAGED_MEMBER, "its bytes reach into what follows it")
    with _rejected_where_damaged(DAMAGED_MEMBER):
        data = _member_bytes(file, info.header_offset, info.file_size)
        if zlib.crc32(data) != info.CRC:
            raise zipfile.BadZipFile("wrong checksum")
    return data


def _member_bytes(file: BinaryIO, offset: int, length: int) -> bytes:
    """A member's first `length` bytes; its header states where they begin, and how they are kept.

    The compressed length isn't needed: a deflated stream knows its end.
    """
    file.seek(offset)
    header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_HEADER_MARK):
        raise zipfile.BadZipFile("no member's header")
    method, names = struct.unpack_from("<H", header, 8)[0], struct.unpack_from("<HH", header, 26)
    file.seek(offset + _HEADER_BYTES + sum(names))
    pieces = _stored(file, length) if method == zipfile.ZIP_STORED else _inflated(file, length)
    return b"".join(pieces)


def _stored(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length:
        piece = file.read(min(length, _BYTES_AT_ONCE))
        if not piece:
            raise zipfile.BadZipFile("it ends early")
        length -= len(piece)
        yield piece


def _inflated(file: BinaryIO, length: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while length:
        compressed = inflater.unconsumed_tail or file.read(_BYTES_AT_ONCE)
        if inflater.eof or not compressed:
            raise zipfile.BadZipFile("it ends early")
        piece = inflater.decompress(compressed, length)
        length -= len(piece)
        yield piece


@contextmanager
def _rejected_where_damaged(reason: str) -> Iterator[None]:
    """Turns what zipfile and zlib raise on damaged bytes into a reject."""
    try:
        yield
    except (
        zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, ValueError,
        ArithmeticError, LookupError, EOFError,
    ) as error:  # fmt: skip
        raise ImageRejected(reason, str(error)) from error
