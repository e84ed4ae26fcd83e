"""Files of a corpus that are named one by one, or matched by wildcards."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from stat import S_ISDIR
from typing import Any

from storage.access.roots import is_path_outside
from storage.corpora.contents import look_into_files
from storage.corpora.folders import remote_namer
from storage.corpora.label_maps import is_in_label_map_folder, is_label_map_beside
from storage.corpora.listing import (
    IMAGE,
    UNKNOWN,
    Listing,
    ListingBuilder,
    container_kind,
    count_other_file,
)
from storage.errors.exceptions import StorageError
from storage.errors.reject_reasons import DUPLICATE_FOLDER, MISSING, OUTSIDE_ROOTS, UNREADABLE
from storage.files.file_kinds import extension_of, is_hidden, is_image, is_tar, is_web
from storage.files.filesystems import (
    MissingFileError,
    UnreachableError,
    is_local,
    local_path,
    local_uri,
    resolve,
    translated_errors,
)

_Match = tuple[str, bool, Mapping[str, Any] | None]  # URI, whether it is a folder, its description


@dataclass(eq=False)
class Found:
    """The matches of wildcards. Hidden files and folders are only counted, unless spelled out.

    Attributes:
        files: URIs of those that may be images or tars, by their names.
        folders: URIs.
        others: URIs of all other files.
        hidden: how many are hidden.
        duplicates: URIs of local folders that are found under another path already, by links.
        outside: URIs of local folders outside the roots to which symbolic links lead.
        infos: of remote files, the file system's descriptions, by URI.
        spelled: parts of the patterns' paths, which are not hidden.
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    hidden: int = 0
    duplicates: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    infos: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    spelled: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.files) + len(self.folders) + len(self.others)

    @property
    def has_images(self) -> bool:
        """Whether the patterns search for images: some match, and not by their contents alone."""
        return any(map(is_image, self.files)) or (
            not self.others and any(not extension_of(uri) for uri in self.files)
        )

    def add_matches(self, pattern: str) -> bool:
        """Add what one pattern matches, in a fixed order; False if nothing matches.

        Raises:
            StorageError: a remote file system can't be searched.
        """
        number = len(self)
        self.spelled |= set(pattern.split("/"))
        matches = self._local(pattern) if is_local(pattern) else _remote(pattern)
        for uri, is_folder, info in matches:
            if any(is_hidden(part) and part not in self.spelled for part in uri.split("/")):
                self.hidden += 1
            elif is_folder:
                self.folders.append(uri)
            elif is_image(uri) or is_tar(uri) or not extension_of(uri):
                self.files.append(uri)
                if info is not None:
                    self.infos[uri] = info
            else:
                self.others.append(uri)
        return len(self) > number

    def _local(self, pattern: str) -> Iterator[_Match]:
        paths = sorted(glob.glob(local_path(pattern), recursive=True))  # noqa: PTH207
        outside = set(filter(is_path_outside, _folders(paths)))
        paths, left_out = _without(paths, outside)
        self.outside += left_out
        if "**" in pattern:  # which follows a loop of links until the system stops it
            paths, left_out = _without(paths, _duplicates(_folders(paths)))
            self.duplicates += left_out
        for path in paths:
            try:
                is_folder = S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 - once per file
            except OSError:  # a broken link, or a folder that may not be entered: a reject later
                is_folder = False
            yield local_uri(path), is_folder, None


def list_files(uris: Sequence[str], root: str, found: Found | None) -> Listing:
    """The listing of single images and containers, which are not opened.

    Args:
        uris: of the files.
        root: URI of the folder in which a search began.
        found: of wildcards; None where each file is named, and taken as an image or tar. Else label
            maps among the files are only counted, and files without extension are checked.

    Raises:
        StorageError: a file system can't be reached.
    """
    builder = ListingBuilder()
    names = set(uris)
    for uri in uris:
        if found is not None and _is_label_map(uri, names, found):
            builder.ignore_label_map()
        elif (container := container_kind(uri)) is not None:
            _add(uri, container, builder, found)
        else:
            known = found is None or is_image(uri)
            _add(uri, IMAGE if known else UNKNOWN, builder, found)
    if found is None:
        return builder.finish()
    builder.add_ignored(_ignored(found))
    for uri in found.duplicates:
        builder.reject(uri, DUPLICATE_FOLDER)
    for uri in found.outside:
        builder.reject(uri, OUTSIDE_ROOTS)
    return look_into_files(builder.finish(), root)


def _ignored(found: Found) -> Counter[str]:
    ignored = Counter[str]()
    if found.has_images:  # else they are sources of their own
        for uri in found.others:
            count_other_file(uri, ignored)
    return ignored + Counter({"hidden file": found.hidden})


def _is_label_map(uri: str, names: set[str], found: Found) -> bool:
    folder = uri.rpartition("/")[0].rpartition("/")[2]
    return is_label_map_beside(uri, names.__contains__) or (
        folder not in found.spelled and is_in_label_map_folder(uri)
    )


def _add(uri: str, kind: str, builder: ListingBuilder, found: Found | None) -> None:
    if is_local(uri):
        builder.add_local(uri, kind)
    elif is_web(uri):
        builder.add(uri, -1, "", kind)
    elif found is not None and uri in found.infos:
        builder.add_remote(uri, kind, found.infos[uri])
    else:
        try:
            with translated_errors("look for", uri):
                file_system, path = resolve(uri)
                builder.add_remote(uri, kind, file_system.info(path))
        except UnreachableError:
            raise
        except StorageError as error:
            builder.reject(uri, MISSING if isinstance(error, MissingFileError) else UNREADABLE)


def _folders(paths: list[str]) -> set[str]:
    return {os.path.dirname(path) for path in paths}  # noqa: PTH120


def _without(paths: list[str], folders: set[str]) -> tuple[list[str], list[str]]:
    """The paths that are in none of the folders, and the URIs of the outermost of these, sorted."""
    kept = [path for path in paths if os.path.dirname(path) not in folders]  # noqa: PTH120
    outermost = (path for path in folders if os.path.dirname(path) not in folders)  # noqa: PTH120
    return kept, [local_uri(path) for path in sorted(outermost)]


def _duplicates(folders: set[str]) -> set[str]:
    """Those of the folders that are others of them under another path; real paths stay first."""
    real = {folder: os.path.realpath(folder) for folder in folders}
    first: dict[str, str] = {}
    for folder in sorted(folders, key=lambda path: (path != real[path], path.count("/"), path)):
        first.setdefault(real[folder], folder)
    return {folder for folder in folders if first[real[folder]] != folder}


def _remote(pattern: str) -> Iterator[_Match]:
    with translated_errors("list", pattern):
        file_system, path = resolve(pattern)
        file_system.invalidate_cache()
        matches = file_system.glob(path, detail=True)
    uri_of = remote_namer(file_system)
    for name, info in sorted(matches.items()):
        if not name.endswith("/"):  # object stores mark folders by empty objects of this name
            yield uri_of(name), info.get("type") == "directory", info
