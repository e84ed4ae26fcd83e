"""Source names of images in shards, without paths of the machine that made the shards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePosixPath

from storage.files.filesystems import is_local, local_path


def source_name(uri: str, roots: Sequence[str]) -> tuple[str, str]:
    """The name of the corpus's root that contains a file, and the file's path relative to it.

    Args:
        uri: of the file; a remote file is named by its URI and has no root.
        roots: folders of the corpus, local paths or URIs, in a fixed order.

    Returns:
        The root's name: its folder's, with a number where several roots have the same; empty for
        remote files. And the relative path, with slashes; it begins with `../` for files that a
        table or a COCO JSON lists outside its own folder.
    """
    local = [local_path(root) for root in roots if is_local(root)]
    if not is_local(uri) or not local:
        return "", uri
    path = local_path(uri)
    # The innermost root where one contains another; for files in none, the nearest one.
    place = max(range(len(local)), key=lambda i: (len(os.path.commonpath([local[i], path])),
                                                  -len(local[i]), -i))  # fmt: skip
    return _root_names(local)[place], os.path.relpath(path, local[place]).replace(os.sep, "/")


def _root_names(roots: Sequence[str]) -> list[str]:
    """Folder names; repeated names get a number from the second on."""
    names: list[str] = []
    for root in roots:
        name = base = PurePosixPath(root).name or "root"
        number = 1
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names
