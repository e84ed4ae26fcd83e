"""The bytes of an indexed image, read again from the corpus and verified by their sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from storage.corpora.image_bytes import read_image_bytes
from storage.errors.exceptions import CorpusError, ImageRejected, StorageError
from storage.errors.reject_reasons import CHANGED, REJECT_REASONS, TRANSIENT
from storage.files.filesystems import display


def read_source_image(record: Mapping[str, Any]) -> bytes:
    """The bytes of the image of a record (image_id, uri, offset, length).

    Raises:
        CorpusError: the file is missing or has changed. That is no property of the image and must
            not be recorded as a reject: the next scan notices and plans anew.
        StorageError: a server has a transient error.
    """
    try:
        data = read_image_bytes(record["uri"], record["offset"], record["length"])
        if hashlib.sha256(data).hexdigest() != record["image_id"]:
            raise ImageRejected(CHANGED)
    except ImageRejected as rejected:
        if rejected.reason in TRANSIENT:
            raise StorageError(
                f"{rejected.detail} Finished work is kept, and the same command goes on from here. "
                "If that never helps, remove the file from the corpus."
            ) from rejected
        raise CorpusError(
            f"{display(record['uri'])} can't be used any more: {REJECT_REASONS[rejected.reason]}. "
            "It was indexed before: run the same command again to index the corpus as it is now; "
            "if that changes nothing, remove the file from the corpus."
        ) from rejected
    return data
