"""Names by which a file of embeddings may know an image, and their digests.

A file of embeddings names images as its writer saw them: by the path of a file, by the key of a
sample in a tar, by an address, or by a file's name alone. An absolute path or an address is an
image's only in full. Any other name is an image's if its path, or its name in a tar, ends so, in
whole components, with or without the extension.

Dimensions:
    n  names
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from storage.files.filesystems import is_local, local_path

_DIGEST_BYTES = 8


def plain_name(name: str) -> str:
    """A name of a file of embeddings as it is compared: without `file://` and `./`."""
    name = name.removeprefix("file://")
    while name.startswith("./"):
        name = name[2:]
    return name


def names_of(uri: str, member: str) -> Iterator[str]:
    """Names that an image may have, the longest first.

    Args:
        uri: of its file or container.
        member: its name in the container; '' for a file of its own.
    """
    if member:
        yield from _ends(member)
        return
    place = local_path(uri) if is_local(uri) else uri
    yield place
    yield from _ends(place)


def _ends(path: str) -> Iterator[str]:
    parts = path.strip("/").split("/")
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        yield end
        yield posixpath.splitext(end)[0]


def name_digests(names: Iterable[str]) -> NDArray[np.uint64]:
    """64-bit digests [n] of names as they are compared.

    Two different names of 10^8 have the same with a probability of 3 in 10,000.
    """
    digests = b"".join(
        hashlib.blake2b(_utf8(name), digest_size=_DIGEST_BYTES).digest() for name in names
    )
    return np.frombuffer(digests, dtype="<u8")


def _utf8(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")
