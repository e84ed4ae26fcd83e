"""Corpora: from names on the command line to sources and their listings.

A corpus is any mix of folders, images, tars, zips, Arrow files, saved data sets, tables, lists and
COCO-style JSON files, local or behind fsspec. `open_sources` finds the source of each name, and
`list_source` lists its files.
"""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import braceexpand
import pyarrow as pa

from storage.access.credentials import refuse_secrets
from storage.containers.saved_datasets import is_saved_dataset, saved_files
from storage.corpora.coco import list_coco
from storage.corpora.folders import list_containers, list_folder, remote_namer
from storage.corpora.listing import PARQUET, Listing, ListingBuilder
from storage.corpora.named_files import Found, list_files
from storage.corpora.selection import ALL, Selection
from storage.corpora.tables import check_table, holds_images, list_table
from storage.errors.exceptions import ConfigError, CorpusError
from storage.files.file_heads import read_heads
from storage.files.file_kinds import (
    UNREADABLE_IMAGE_EXTENSIONS,
    extension_of,
    is_compressed_tar,
    is_image,
    is_table,
    is_tar,
    is_web,
)
from storage.files.filesystems import (
    MissingFileError,
    display,
    exists,
    is_local,
    is_outside,
    local_path,
    local_uri,
    parent_uri,
    pattern_folder,
    refuse_outside,
    resolve,
    translated_errors,
)
from storage.files.regular_files import open_regular
from storage.files.user_files import user_path

SourceKind = Literal["folder", "tars", "files", "table", "coco", "saved"]

# Names that the braces of one name may expand to; a shell would not take a tenth of them.
_MOST_EXPANDED = 1_000_000
_MOST_DIGITS = 18
# Extensions of containers that a folder with images or tars leaves alone.
_OTHER_CONTAINERS = frozenset({"zip", "arrow", "parquet"})
_RANGE = re.compile(r"\{(-?[0-9]+)\.\.(-?[0-9]+)(?:\.\.-?[0-9]+)?\}")

_KINDS = (
    "a folder, an image, .tar, .zip or .arrow files, a .parquet, .csv or .tsv table, a .txt or "
    ".jsonl list, or a COCO-style .json file"
)


@dataclass(frozen=True)
class Source:
    """One part of a corpus.

    Attributes:
        spec: as the user wrote it.
        kind: folder, tars, files (images, zips and Arrow files, and tars that a pattern matches
            with them), table (and list), coco, or saved (a data set saved to disk).
        uris: one URI; for tars and files one or more, sorted. Two specs for the same thing have
            equal URIs.
        root: URI of the folder to which the names of tars and files are relative.
        found: the matches of wildcards; None where each file is named.
    """

    spec: str
    kind: SourceKind
    uris: tuple[str, ...]
    root: str = field(default="", compare=False)
    found: Found | None = field(default=None, compare=False, repr=False)


def open_sources(specs: Sequence[str], *, uri_column: str = "") -> list[Source]:
    """The sources of all specs; of a file, no more than the head is read.

    A spec is a path or URI, which may hold wildcards (`*`, `?`, `[…]`, `**`; not on web servers)
    and braces (`{000..012}.tar`, `{a,b}`). A path that exists as it is written is taken so.

    Args:
        specs: as users write them.
        uri_column: of tables and `.jsonl` lists, the column of the images' paths; empty:
            one of the usual names.

    Returns:
        Sources in an order that does not depend on that of the specs, each once.

    Raises:
        ConfigError: a spec carries a secret, or lies outside the roots.
        CorpusError: a source doesn't exist, or is of no kind that a corpus can have.
        StorageError: a file system can't be reached, or refuses.
    """
    sources: dict[tuple[SourceKind, tuple[str, ...]], Source] = {}
    for spec in sorted(specs):
        for source in _open_spec(spec, uri_column):
            sources.setdefault((source.kind, source.uris), source)
    return [sources[key] for key in sorted(sources)]


def list_source(source: Source, selection: Selection = ALL, *, uri_column: str = "") -> Listing:
    """Lists the source's files; containers are not opened, and of few images the heads are read.

    The same files give the same listing. It may be empty. Memory is that of the URIs, times a
    small factor.

    Args:
        source: of `open_sources`.
        selection: the files to take, by names relative to the source's folder, or as its table
            or JSON file writes them.
        uri_column: as in `open_sources`.

    Raises:
        CorpusError: a table or JSON file is damaged or not of the right form.
        StorageError: a file system can't be reached.
    """
    if source.kind == "folder":
        return selection.of_listing(_list_folder(source.uris[0]), source.uris[0])
    if source.kind == "saved":
        files = list_files(saved_files(source.uris[0]), source.uris[0], None)
        return selection.of_listing(files, source.uris[0])
    if source.kind == "table" and holds_images(source.uris[0], uri_column):
        folder = parent_uri(source.uris[0])
        return selection.of_listing(list_files(source.uris, folder, None), folder)
    if source.kind in ("tars", "files"):
        return selection.of_listing(list_files(source.uris, source.root, source.found), source.root)
    builder = ListingBuilder(None if selection.takes_all else selection.takes)
    if source.kind == "table":
        list_table(source.uris[0], builder, uri_column)
    else:
        list_coco(source.uris[0], builder)
    return builder.finish()


def _list_folder(uri: str) -> Listing:
    """The listing of a folder; where it has neither images nor tars, of its other containers."""
    listing = list_folder(uri)
    if listing.entries.num_rows or not _OTHER_CONTAINERS & listing.ignored.keys():
        return listing
    found = list_containers(uri)
    entries = found.entries
    kept = [
        kind != PARQUET or holds_images(place)
        for place, kind in zip(
            *(entries[name].to_pylist() for name in ("uri", "kind")), strict=True
        )
    ]
    if not any(kept):
        return listing
    ignored = Counter(found.ignored) + Counter({PARQUET: kept.count(False)})
    return Listing(
        entries.filter(pa.array(kept, pa.bool_())), found.rejects, dict(sorted(ignored.items()))
    )


def list_corpus(
    specs: Sequence[str], selection: Selection = ALL, *, uri_column: str = ""
) -> Listing:
    """Lists all sources of a corpus together, each file once.

    Raises:
        ConfigError, CorpusError, StorageError: as `open_sources`, `list_source` and
            `check_uri_column`.
    """
    sources = open_sources(specs, uri_column=uri_column)
    check_uri_column(uri_column, sources)
    builder = ListingBuilder()
    for source in _named_files_together(sources):
        builder.add_listing(list_source(source, selection, uri_column=uri_column))
    return builder.finish()


def _named_files_together(sources: Sequence[Source]) -> Iterator[Source]:
    """The sources, with files that are named one by one as one source a folder: a shell may have
    made thousands of names out of a pattern, and a listing takes its milliseconds."""
    named: dict[str, list[str]] = {}
    for source in sources:
        if source.kind in ("tars", "files") and source.found is None:
            named.setdefault(source.root, []).extend(source.uris)
        else:
            yield source
    for root, uris in named.items():
        yield Source(root, "files", tuple(uris), root)


def check_uri_column(uri_column: str, sources: Sequence[Source]) -> None:
    """Refuse a column that no source can use.

    Raises:
        ConfigError: there is no table with columns among the sources.
    """
    tables = (source.uris[0] for source in sources if source.kind == "table")
    if uri_column and all(extension_of(uri) == "txt" for uri in tables):
        raise ConfigError(
            f"uri_column is {uri_column!r}, but the corpus has no table with columns: leave it out."
        )


def _open_spec(spec: str, uri_column: str) -> Iterator[Source]:
    if not spec.strip():
        raise CorpusError(f"The name of a corpus is empty; give {_KINDS}.")
    if not is_local(spec):
        refuse_secrets(spec)
    uri = local_uri(_user_path(spec)) if is_local(spec) else spec
    if not is_outside(uri) and _file_type(uri) is not None:
        yield from _sources(spec, [_canonical(uri)], _canonical(parent_uri(uri)), uri_column)
        return
    named, found = [], Found()
    for pattern in _expand_braces(uri):
        refuse_outside(pattern)
        # In a web address, a question mark begins the query.
        if is_web(uri) or not glob.has_magic(pattern):
            named.append(_canonical(pattern))
            continue
        if not found.add_matches(pattern):
            raise CorpusError(
                f"Nothing matches {display(pattern)}; check the path and the pattern "
                "(and quote it, so that the shell leaves it alone)."
            )
    yield from _sources(spec, named, _canonical(pattern_folder(uri)), uri_column, found or None)


def _sources(
    spec: str, named: list[str], root: str, uri_column: str, found: Found | None = None
) -> Iterator[Source]:
    """The sources of a spec: its images and tars as one, everything else as one each."""
    files = []
    if found is not None:
        searched = found.has_images
        files += found.files if searched else [uri for uri in found.files if is_tar(uri)]
        if not searched:
            named = [*named, *found.others, *(uri for uri in found.files if not is_tar(uri))]
        if "**" not in spec or not (found.files or found.others):  # their files match, too
            named = [*named, *found.folders]
    kinds = {uri: _kind(uri, uri_column) for uri in dict.fromkeys(named)}
    files += [uri for uri, kind in kinds.items() if kind in ("tars", "files")]
    if files:
        kind: SourceKind = "tars" if all(map(is_tar, files)) else "files"
        yield Source(spec, kind, tuple(sorted(set(files))), root, found)
    for uri, kind in kinds.items():
        if kind not in ("tars", "files"):
            yield Source(spec, kind, (uri,))


def _user_path(spec: str) -> str:
    path = local_path(spec)
    return str(user_path(path)) if path.startswith("~") else path


def _expand_braces(uri: str) -> list[str]:
    if "{" not in uri:
        return [uri]
    expanded: list[str] = []
    # braceexpand makes a list of a range before it gives the first name.
    if all(_range_length(*ends) <= _MOST_EXPANDED for ends in _RANGE.findall(uri)):
        try:
            expanded = list(islice(braceexpand.braceexpand(uri, escape=False), _MOST_EXPANDED + 1))
        except (ValueError, RecursionError):  # unbalanced braces, or thousands in one another
            return [uri]
    if not 0 < len(expanded) <= _MOST_EXPANDED:
        raise CorpusError(
            f"The braces in {display(uri)} expand to more than {_MOST_EXPANDED:,} names; name a "
            "folder, or a pattern with * in place of the numbers."
        )
    return expanded


def _range_length(first: str, last: str) -> int:
    if max(len(first), len(last)) > _MOST_DIGITS:
        return _MOST_EXPANDED + 1
    return abs(int(last) - int(first)) + 1


def _canonical(uri: str) -> str:
    """One spelling for each place, so that a source named twice is found to be the same."""
    if is_local(uri):
        return local_uri(local_path(uri))
    if is_web(uri):
        return uri
    file_system, path = resolve(uri)
    return remote_namer(file_system)(path)


def _kind(uri: str, uri_column: str) -> SourceKind:
    """The kind of source at `uri`.

    Raises:
        CorpusError: it doesn't exist, or is of no kind that a corpus can have.
    """
    refuse_outside(uri)  # a pattern may match a link
    file_type = _file_type(uri)
    if file_type is None:
        raise CorpusError(f"The corpus {display(uri)} does not exist; check the path.")
    if file_type == "directory":
        _check_folder(uri)
        return "saved" if is_saved_dataset(uri) else "folder"
    if is_compressed_tar(uri):
        raise CorpusError(
            f"The tar {display(uri)} is compressed, so that its images can't be read by byte "
            "range; decompress it (to a .tar) and name that."
        )
    if is_tar(uri):
        return "tars"
    if extension_of(uri) in ("zip", "arrow"):
        return "files"
    if is_table(uri):
        check_table(uri, uri_column)
        return "table"
    if extension_of(uri) == "json":
        return "coco"
    if is_image(uri) or _begins_as_image(uri):
        return "files"
    if is_local(uri):
        with translated_errors("read", uri):  # a pipe, such as a shell's <(…), has its own error
            open_regular(local_path(uri)).close()
    if extension_of(uri) in UNREADABLE_IMAGE_EXTENSIONS:
        raise CorpusError(
            f"{display(uri)} is an image of a kind that is not read here: convert it to JPEG or "
            "PNG."
        )
    raise CorpusError(f"A corpus is {_KINDS}, and {display(uri)} is none of these.")


def _begins_as_image(uri: str) -> bool:
    from storage.images.decoding import HEAD_BYTES, looks_like_image  # which takes a moment

    return looks_like_image(read_heads([uri], HEAD_BYTES)[0])


def _file_type(uri: str) -> Literal["file", "directory"] | None:
    """Whether a file or a folder is at `uri`; None for neither.

    Raises:
        StorageError: this can't be found out.
    """
    try:
        with translated_errors("open", uri):
            if is_local(uri):
                os.stat(local_path(uri))  # noqa: PTH116 - distinguishes missing from forbidden
                return "directory" if Path(local_path(uri)).is_dir() else "file"
            return _remote_type(uri)
    except MissingFileError:
        return None


def _remote_type(uri: str) -> Literal["file", "directory"] | None:
    if is_web(uri):  # which knows files only
        return "file" if exists(uri) else None
    file_system, path = resolve(uri)
    file_system.invalidate_cache()
    return "directory" if file_system.info(path)["type"] == "directory" else "file"


def _check_folder(uri: str) -> None:
    """Raises StorageError where a local folder may not be listed at all."""
    if is_local(uri):
        with translated_errors("list the folder", uri), os.scandir(local_path(uri)):
            pass
