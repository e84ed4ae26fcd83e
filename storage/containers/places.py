"""Reading a member of a container once more, by its place."""

from __future__ import annotations

from storage.errors.exceptions import ImageRejected
from storage.errors.reject_reasons import CHANGED
from storage.files.file_kinds import extension_of
from storage.files.filesystems import read_range


def read_member(uri: str, offset: int, length: int) -> bytes:
    """The bytes at a member's place in the container `uri`, tars included.

    Raises:
        ImageRejected: `changed` where there is no such member any more.
        StorageError: the container can't be read; other errors are foreign.
    """
    extension = extension_of(uri)
    if extension == "zip":
        from storage.containers.zips import read_zip_member

        return read_zip_member(uri, offset, length)
    if extension != "parquet":
        return read_range(uri, offset, length)
    from storage.containers.parquet_images import read_parquet_image

    data = read_parquet_image(uri, offset)
    if len(data) != length:
        raise ImageRejected(CHANGED, f"{len(data)} bytes instead of {length}")
    return data
