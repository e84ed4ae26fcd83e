"""The bytes of an indexed image, read again from the corpus and proved to be the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from storage.corpora.image_bytes import read_image_bytes
from storage.errors.exceptions import CorpusError, ImageRejected, StorageError
from storage.errors.reject_reasons import CHANGED, REJECT_REASONS, TRANSIENT
from storage.files.filesystems import display


def read_source_image(record: Mapping[str, Any]) -> bytes:
    """The bytes that a record (image_id, uri, offset, length) stands for.

    Raises:
        CorpusError: if the file is gone or changed. That is no property of the image, so it must
            not be recorded as one: the next scan notices and plans anew.
        StorageError: a server has a transient error.
    """
    try:
        data = read_image_bytes(record["uri"], record["offset"], record["length"])
        if hashlib.sha256(data).hexdigest() != record["image_id"]:
            raise ImageRejected(CHANGED)
    except ImageRejected as rejected:
        if rejected.reason in TRANSIENT:
            raise StorageError(
                f"{rejected.detail} What is finished is kept: the same command goes on from here. "
                "If that never helps, take the file out of the corpus."
            ) from rejected
        raise CorpusError(
            f"{display(record['uri'])} can't be used any more: {REJECT_REASONS[rejected.reason]}. "
            "It was indexed before: run the same command again to index the corpus as it is now, "
            "and if that changes nothing, take the file out of the corpus."
        ) from rejected
    return data
