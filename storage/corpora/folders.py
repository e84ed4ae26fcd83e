"""Folders as corpora, walked without keeping an object per file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from storage.access.roots import is_path_outside
from storage.corpora.contents import look_into_files
from storage.corpora.label_maps import is_in_label_map_folder, is_label_map_beside
from storage.corpora.listing import (
    UNKNOWN,
    Listing,
    ListingBuilder,
    container_kind,
    kind_by_name,
)
from storage.errors.exceptions import StorageError
from storage.errors.reject_reasons import (
    DUPLICATE_FOLDER,
    MISSING,
    OUTSIDE_ROOTS,
    SYMLINK_LOOP,
    UNREADABLE_FOLDER,
)
from storage.files.file_kinds import extension_of, file_name, is_hidden
from storage.files.filesystems import (
    MissingFileError,
    UnreachableError,
    is_local,
    local_path,
    local_uri,
    resolve,
    translated_errors,
)

_FolderId = tuple[int, int]  # device, inode
_KindOf = Callable[[str], str | None]


def list_folder(uri: str) -> Listing:
    """Every image and tar below the folder; hidden ones and label maps are counted only.

    See `label_maps` for these; VOC's folder of them is read where it is the corpus itself. Files
    without extension are images if they begin as images do.

    Raises:
        StorageError: a remote file system can't be reached. Folders that may not be listed are
            rejects, not errors.
    """
    builder = ListingBuilder()
    if is_local(uri):
        _LocalWalk(builder).walk(local_path(uri))
    else:
        _list_remote_folder(uri, builder)
    return look_into_files(builder.finish(), uri)


def list_containers(uri: str) -> Listing:
    """Every tar, zip, Arrow and Parquet file below the folder; hidden ones are counted only.

    Raises:
        StorageError: as `list_folder`.
    """
    builder = ListingBuilder()
    if is_local(uri):
        _LocalWalk(builder, container_kind).walk(local_path(uri))
    else:
        _list_remote_folder(uri, builder, kind_of=container_kind)
    listing = builder.finish()
    return Listing(
        listing.entries.filter(pc.not_equal(listing.entries["kind"], UNKNOWN)),
        listing.rejects,
        listing.ignored,
    )


def all_files_below(uri: str) -> Listing:
    """Every image and tar below a remote folder, hidden ones and label maps too; files without
    extension are `UNKNOWN`.

    Raises:
        StorageError: as `list_folder`.
    """
    builder = ListingBuilder()
    _list_remote_folder(uri, builder, filtered=False)
    return builder.finish()


@dataclass(frozen=True)
class _Folder:
    path: str
    identity: _FolderId
    parent: _Folder | None

    def is_within(self, identity: _FolderId) -> bool:
        folder: _Folder | None = self
        while folder is not None:
            if folder.identity == identity:
                return True
            folder = folder.parent
        return False


class _LocalWalk:
    """Visits each folder once, however many symbolic links lead to it.

    All real folders come first, then the links found among them, sorted, then the links found
    behind those. So the paths under which files are listed do not depend on the order in which
    the disk returns names, and links can neither loop nor multiply the work.
    """

    def __init__(self, builder: ListingBuilder, kind_of: _KindOf = kind_by_name) -> None:
        self._builder = builder
        self._kind_of = kind_of
        self._visited: set[_FolderId] = set()
        self._links: list[tuple[str, _Folder]] = []

    def walk(self, path: str) -> None:
        self._walk_real(path, None)
        while self._links:
            links, self._links = sorted(self._links, key=lambda link: link[0]), []
            for link, parent in links:
                self._follow(link, parent)

    def _follow(self, link: str, parent: _Folder) -> None:
        if is_path_outside(link):
            self._builder.reject(local_uri(link), OUTSIDE_ROOTS)
            return
        try:
            identity = _identity(os.stat(link))  # noqa: PTH116 - see _list
        except OSError:
            self._builder.reject(local_uri(link), UNREADABLE_FOLDER)
            return
        if parent.is_within(identity):
            self._builder.reject(local_uri(link), SYMLINK_LOOP)
        elif identity in self._visited:
            self._builder.reject(local_uri(link), DUPLICATE_FOLDER)
        else:
            self._walk_real(link, parent)

    def _walk_real(self, path: str, parent: _Folder | None) -> None:
        pending = [(path, parent)]
        while pending:
            path, parent = pending.pop()
            try:
                folder = _Folder(path, _identity(os.stat(path)), parent)  # noqa: PTH116
                if folder.identity in self._visited:  # by way of a mount, or listed meanwhile
                    continue
                self._visited.add(folder.identity)
                # Reversed, because the list is emptied from its end.
                pending += [(sub, folder) for sub in sorted(self._list(folder), reverse=True)]
            except OSError:
                self._builder.reject(local_uri(path), UNREADABLE_FOLDER)

    def _list(self, folder: _Folder) -> list[str]:
        """Adds the folder's files and notes its links; returns the paths of its real folders."""
        subfolders = []
        # os.scandir and os.stat rather than pathlib: one object and few calls per file.
        with os.scandir(folder.path) as entries:
            for entry in entries:
                is_folder = _is_folder(entry)
                if is_hidden(entry.name):
                    self._builder.ignore_hidden("folder" if is_folder else "file")
                elif not is_folder:
                    self._add(entry, is_root=folder.parent is None)
                elif entry.is_symlink():
                    self._links.append((entry.path, folder))
                else:
                    subfolders.append(entry.path)
        return subfolders

    def _add(self, entry: os.DirEntry[str], *, is_root: bool) -> None:
        kind = self._kind_of(entry.name) or (None if extension_of(entry.name) else UNKNOWN)
        if kind is None:
            self._builder.ignore(entry.name)
            return
        # os.path.exists is asked for names that end in .mask.png alone.
        if is_label_map_beside(entry.path, os.path.exists) or (
            not is_root and is_in_label_map_folder(entry.path)
        ):
            self._builder.ignore_label_map()
            return
        if entry.is_symlink() and is_path_outside(entry.path):
            self._builder.reject(local_uri(entry.path), OUTSIDE_ROOTS)
            return
        result: os.stat_result | OSError
        try:
            result = entry.stat()
        except OSError as error:
            result = error
        if kind == UNKNOWN and (isinstance(result, OSError) or not stat.S_ISREG(result.st_mode)):
            self._builder.ignore(entry.name)
            return
        self._builder.add_local_stat(local_uri(entry.path), kind, result)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder that may not be entered
        return False


def _identity(result: os.stat_result) -> _FolderId:
    return result.st_dev, result.st_ino


def _list_remote_folder(
    uri: str, builder: ListingBuilder, *, filtered: bool = True, kind_of: _KindOf = kind_by_name
) -> None:
    file_system, root = resolve(uri)
    uri_of = remote_namer(file_system)
    pending, seen = [root], {_bare(root)}
    while pending:
        path = pending.pop()
        try:
            details = _remote_details(file_system, path, uri_of(path))
        except UnreachableError:
            raise
        except StorageError as error:
            missing = isinstance(error, MissingFileError)
            builder.reject(uri_of(path), MISSING if missing else UNREADABLE_FOLDER)
            continue
        names = {str(info["name"]) for info in details}
        for info in details:
            name = str(info["name"])
            is_folder = info.get("type") == "directory"
            # Some stores list the folder within itself, and the corpus's own may be hidden.
            if filtered and is_hidden(file_name(name)) and _bare(name) not in seen:
                builder.ignore_hidden("folder" if is_folder else "file")
            elif (
                filtered
                and not is_folder
                and (
                    is_label_map_beside(name, names.__contains__)
                    or (path != root and is_in_label_map_folder(name))
                )
            ):
                builder.ignore_label_map()
            elif not is_folder:
                _add_remote(name, info, uri_of, builder, kind_of)
            elif _bare(name) not in seen:  # some stores list a folder within itself
                seen.add(_bare(name))
                pending.append(name)


def _add_remote(
    name: str,
    info: dict[str, Any],
    uri_of: Callable[[str], str],
    builder: ListingBuilder,
    kind_of: _KindOf,
) -> None:
    kind = kind_of(name)
    if kind is not None:
        builder.add_remote(uri_of(name), kind, info)
    elif name.endswith("/"):  # object stores mark folders by empty objects of this name
        return
    elif extension_of(name):
        builder.ignore(name)
    else:
        builder.add_remote(uri_of(name), UNKNOWN, info)


def _remote_details(file_system: Any, path: str, uri: str) -> list[dict[str, Any]]:
    with translated_errors("list", uri):
        file_system.invalidate_cache(path)  # the corpus as it is now, not when last looked at
        details: list[dict[str, Any]] = file_system.ls(path, detail=True)
        file_system.invalidate_cache(path)  # or a corpus of millions stays in memory
        return details


def remote_namer(file_system: Any) -> Callable[[str], str]:
    """The function from a path in a remote file system to its URI."""

    def uri_of(path: str) -> str:
        return str(file_system.unstrip_protocol(path))

    return uri_of


def _bare(path: str) -> str:
    return path.strip("/")
