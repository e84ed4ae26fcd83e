"""What a shard says of where its pictures came from: no path of the machine that made it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePosixPath

from storage.files.filesystems import is_local, local_path


def source_name(uri: str, roots: Sequence[str]) -> tuple[str, str]:
    """The corpus's root that a file lies in, by a name of its own, and its path from there.

    Args:
        uri: of the file; what is not local is named by its URI, and has no root.
        roots: folders of the corpus, local paths or URIs, in an order of their own.

    Returns:
        The root's name: its folder's, with a number where several roots have that; empty for
        remote files. And the path from there, with slashes; it begins with `../` for files that a
        table or a COCO JSON names outside of its own folder.
    """
    local = [local_path(root) for root in roots if is_local(root)]
    if not is_local(uri) or not local:
        return "", uri
    path = local_path(uri)
    # The innermost root where one lies in another; for files in none, the one nearest to them.
    place = max(range(len(local)), key=lambda i: (len(os.path.commonpath([local[i], path])),
                                                  -len(local[i]), -i))  # fmt: skip
    return _root_names(local)[place], os.path.relpath(path, local[place]).replace(os.sep, "/")


def _root_names(roots: Sequence[str]) -> list[str]:
    """Folders' names; of several that are equal, all but the first get a number."""
    names: list[str] = []
    for root in roots:
        name = base = PurePosixPath(root).name or "root"
        number = 1
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names
