"""Corpora: what a user names on the command line, and what is there.

A corpus is any mix of folders, tars, tables and COCO-style JSON files, local or behind fsspec.
`open_sources` finds out what each name stands for, and `list_source` what it holds.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import braceexpand

from storage.corpus_coco import list_coco
from storage.corpus_folders import list_folder, remote_namer
from storage.corpus_listing import TAR, Listing, ListingBuilder
from storage.corpus_tables import check_table, list_table
from storage.credentials import refuse_secrets
from storage.errors import CorpusError, StorageError
from storage.file_kinds import extension_of, is_compressed_tar, is_image, is_table, is_tar, is_web
from storage.filesystems import (
    MissingFileError,
    UnreachableError,
    display,
    is_local,
    local_path,
    local_uri,
    resolve,
    translated_errors,
)
from storage.reject_reasons import MISSING, UNREADABLE

SourceKind = Literal["folder", "tars", "table", "coco"]

_KINDS = "a folder, .tar files, a .parquet, .csv or .tsv table, or a COCO-style .json file"


@dataclass(frozen=True)
class Source:
    """One part of a corpus.

    Attributes:
        spec: as the user wrote it.
        kind: folder, tars, table or coco.
        uris: one URI; for tars one or more, sorted. Two specs for the same thing have equal URIs.
    """

    spec: str
    kind: SourceKind
    uris: tuple[str, ...]


def open_sources(specs: Sequence[str]) -> list[Source]:
    """Finds out what each spec is; of a file, no more than the head is read.

    A spec is a path or URI, which may hold wildcards (`*`, `?`, `[…]`; not on web servers) and
    braces (`{000..012}.tar`, `{a,b}`). A path that exists as it is written is taken so.

    Returns:
        Sources in an order that does not depend on that of the specs, each once.

    Raises:
        ConfigError: a spec carries a secret.
        CorpusError: nothing is there, or it is nothing that a corpus can be made of.
        StorageError: a file system can't be reached, or refuses.
    """
    sources: dict[tuple[SourceKind, tuple[str, ...]], Source] = {}
    for spec in sorted(specs):
        for source in _open_spec(spec):
            sources.setdefault((source.kind, source.uris), source)
    return [sources[key] for key in sorted(sources)]


def list_source(source: Source) -> Listing:
    """Lists what the source holds; the image files and tars themselves are not opened.

    The same files give the same listing. It may be empty. Memory is that of the URIs, times a
    small factor.

    Raises:
        CorpusError: a table or JSON file is damaged or not of the right form.
        StorageError: a file system can't be reached.
    """
    builder = ListingBuilder()
    if source.kind == "folder":
        builder.add_listing(list_folder(source.uris[0]))
    elif source.kind == "table":
        list_table(source.uris[0], builder)
    elif source.kind == "coco":
        list_coco(source.uris[0], builder)
    else:
        for uri in source.uris:
            _list_tar(uri, builder)
    return builder.finish()


def _open_spec(spec: str) -> Iterator[Source]:
    if not spec.strip():
        raise CorpusError(f"The name of a corpus is empty; give {_KINDS}.")
    if not is_local(spec):
        refuse_secrets(spec)
    uris = _expand(local_uri(_user_path(spec)) if is_local(spec) else spec)
    kinds = {uri: _kind(uri) for uri in uris}
    tars = tuple(sorted(uri for uri, kind in kinds.items() if kind == "tars"))
    if tars:
        yield Source(spec, "tars", tars)
    for uri, kind in kinds.items():
        if kind != "tars":
            yield Source(spec, kind, (uri,))


def _user_path(spec: str) -> str:
    path = local_path(spec)
    return str(Path(path).expanduser()) if path.startswith("~") else path


def _expand(uri: str) -> list[str]:
    """The URIs for which braces and wildcards stand.

    Raises:
        CorpusError: a wildcard matches nothing.
    """
    if _file_type(uri) is not None:
        return [_canonical(uri)]
    found = []
    for pattern in _expand_braces(uri):
        # In a web address, a question mark begins the query.
        if not is_web(uri) and glob.has_magic(pattern):
            matches = _glob(pattern)
            if not matches:
                raise CorpusError(
                    f"Nothing matches {display(pattern)}; check the path and the pattern "
                    "(and quote it, so that the shell leaves it alone)."
                )
            found += matches
        else:
            found.append(_canonical(pattern))
    return list(dict.fromkeys(found))


def _expand_braces(uri: str) -> list[str]:
    if "{" not in uri:
        return [uri]
    try:
        return list(braceexpand.braceexpand(uri, escape=False))
    except ValueError:  # unbalanced braces
        return [uri]


def _glob(pattern: str) -> list[str]:
    if is_local(pattern):
        return sorted(map(local_uri, glob.glob(local_path(pattern), recursive=True)))  # noqa: PTH207
    with translated_errors("list", pattern):
        file_system, path = resolve(pattern)
        file_system.invalidate_cache()
        return sorted(map(remote_namer(pattern, file_system), file_system.glob(path)))


def _canonical(uri: str) -> str:
    """One spelling for each place, so that a source named twice is found to be the same."""
    if is_local(uri):
        return local_uri(local_path(uri))
    if is_web(uri):
        return uri
    file_system, path = resolve(uri)
    return remote_namer(uri, file_system)(path)


def _kind(uri: str) -> SourceKind:
    """The kind of what is at `uri`.

    Raises:
        CorpusError: nothing is there, or nothing that a corpus can be made of.
    """
    file_type = _file_type(uri)
    if file_type is None:
        raise CorpusError(f"The corpus {display(uri)} does not exist; check the path.")
    if file_type == "directory":
        _check_folder(uri)
        return "folder"
    if is_compressed_tar(uri):
        raise CorpusError(
            f"The tar {display(uri)} is compressed, so that its images can't be read by byte "
            "range; decompress it (to a .tar) and name that."
        )
    if is_tar(uri):
        return "tars"
    if is_table(uri):
        check_table(uri)
        return "table"
    if extension_of(uri) == "json":
        return "coco"
    what = "is a single image; name the folder that it is in" if is_image(uri) else "is none"
    raise CorpusError(f"A corpus is {_KINDS}, and {display(uri)} {what}.")


def _file_type(uri: str) -> Literal["file", "directory"] | None:
    """What is at `uri`; None for nothing.

    Raises:
        StorageError: this can't be found out.
    """
    try:
        with translated_errors("open", uri):
            if is_local(uri):
                os.stat(local_path(uri))  # noqa: PTH116 - tells a missing file from a forbidden one
                return "directory" if Path(local_path(uri)).is_dir() else "file"
            return _remote_type(uri)
    except MissingFileError:
        return None


def _remote_type(uri: str) -> Literal["file", "directory"] | None:
    file_system, path = resolve(uri)
    if is_web(uri):  # which knows files only
        return "file" if file_system.exists(path) else None
    file_system.invalidate_cache()
    return "directory" if file_system.info(path)["type"] == "directory" else "file"


def _check_folder(uri: str) -> None:
    """Raises StorageError where a local folder may not be listed at all."""
    if is_local(uri):
        with translated_errors("list the folder", uri), os.scandir(local_path(uri)):
            pass


def _list_tar(uri: str, builder: ListingBuilder) -> None:
    if is_local(uri):
        builder.add_local(uri, TAR)
    elif is_web(uri):
        builder.add(uri, -1, "", TAR)
    else:
        try:
            with translated_errors("look for", uri):
                file_system, path = resolve(uri)
                builder.add_remote(uri, TAR, file_system.info(path))
        except UnreachableError:
            raise
        except StorageError as error:
            builder.reject(uri, MISSING if isinstance(error, MissingFileError) else UNREADABLE)
