"""COCO-style JSON files as corpora: the images that they list, found beside them."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.corpora.folders import all_files_below, remote_namer
from storage.corpora.listing import IMAGE, ListingBuilder
from storage.errors.exceptions import CorpusError
from storage.errors.reject_reasons import MISSING, NO_URI, OUTSIDE_ROOTS
from storage.files.file_kinds import file_name, is_web
from storage.files.filesystems import (
    display,
    exists,
    is_local,
    is_outside,
    join_uri,
    parent_uri,
    resolve,
)
from storage.files.json_files import is_text, load_json
from storage.files.user_files import ANNOTATIONS

# Images tried to find the folder: some may have been deleted.
_NAMES_TRIED = 20


def list_coco(uri: str, builder: ListingBuilder) -> None:
    """Adds the files of the JSON's `images[].file_name`; those that are missing are rejected.

    The annotations are passed over while parsing, so memory is that of the JSON's text.

    Raises:
        CorpusError: not valid JSON, no list `images`, or its files are in none of the folders.
        StorageError: a file system can't be reached.
    """
    names = []
    for number, (name, _) in enumerate(_images(uri)):
        if name:
            names += [name] if builder.selects(name, IMAGE) else []
        else:
            builder.reject(f"{uri}#images[{number}]", NO_URI)
    if not names:
        return
    folder = _image_folder(uri, names)
    if is_local(uri):
        for name in names:
            builder.add_local(join_uri(folder, name), IMAGE)
    elif is_web(uri):
        for place in (join_uri(folder, name) for name in names):
            if is_outside(place):
                builder.reject(place, OUTSIDE_ROOTS)
            else:
                builder.add(place, -1, "", IMAGE)
    else:
        _add_remote(folder, names, builder)


def image_ids(uri: str) -> dict[str, int]:
    """The `id` of each of the JSON's images, by `file_name` without a leading `./`.

    Raises:
        CorpusError: an image has no name or no id, two have the same, or as `list_coco`.
        StorageError: the file can't be read.
    """
    ids: dict[str, int] = {}
    taken: dict[int, str] = {}
    for number, (given, own_id) in enumerate(_images(uri)):
        name = (given or "").removeprefix("./")
        where = f"images[{number}] of {display(uri)}"
        if not name or own_id is None:
            lacking = "whole number as its `id`" if name else "`file_name`"
            raise CorpusError(f"{where} has no {lacking}: correct the file.")
        if ids.setdefault(name, own_id) != own_id:
            raise CorpusError(
                f"{where} is {display(name)}, which is there already with another `id` "
                f"({ids[name]} and {own_id}): correct the file."
            )
        if taken.setdefault(own_id, name) != name:
            raise CorpusError(
                f"{where}, {display(name)}, has the `id` {own_id} of {display(taken[own_id])}: "
                "correct the file."
            )
    return ids


def image_ids_by_uri(uri: str) -> dict[str, int]:
    """As `image_ids`, by the URIs under which `list_coco` adds the images."""
    ids = image_ids(uri)
    if not ids:
        return {}
    folder = _image_folder(uri, list(ids))
    if is_local(uri) or is_web(uri):
        return {join_uri(folder, name): own_id for name, own_id in ids.items()}
    uri_of = _remote_uris(folder)
    return {uri_of(name): own_id for name, own_id in ids.items()}


def category_numbers(uri: str) -> list[tuple[str, int]]:
    """`name` and `id` of each of the JSON's categories, without those that lack one of them.

    Raises:
        CorpusError: not valid JSON.
        StorageError: the file can't be read.
    """

    def reduce(value: dict[str, Any]) -> Any:
        if "categories" in value:
            return value
        # Annotations and images shrink to None before the next one is parsed.
        name, own_id = value.get("name"), value.get("id")
        is_id = isinstance(own_id, int) and not isinstance(own_id, bool)
        return (name, own_id) if is_text(name) and is_id else None

    document = _parsed(uri, reduce)
    rows = document.get("categories") if isinstance(document, dict) else None
    return [row for row in rows if isinstance(row, tuple)] if isinstance(rows, list) else []


def _parsed(uri: str, reduce: Callable[[dict[str, Any]], Any]) -> Any:
    """The JSON, each object replaced by what `reduce` makes of it as soon as it is complete."""
    try:
        return load_json(uri, ANNOTATIONS, object_hook=reduce)
    except ValueError as error:
        raise CorpusError(
            f"The file {display(uri)} is not valid JSON ({error}); download or write it again."
        ) from error


def _images(uri: str) -> list[tuple[str | None, int | None]]:
    """File name and id of each image; None where it is missing or of another type."""

    def reduce(value: dict[str, Any]) -> Any:
        # Called for each object as soon as it is complete, innermost first: an annotation
        # shrinks to None and an image to name and id before the next one is parsed.
        if "images" in value:
            return value
        name, own_id = value.get("file_name"), value.get("id")
        if not is_text(name):
            return None
        is_id = isinstance(own_id, int) and not isinstance(own_id, bool)
        return name, own_id if is_id else None

    document = _parsed(uri, reduce)
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list):
        raise CorpusError(
            f"The file {display(uri)} has no list `images`; a corpus can be a COCO-style JSON "
            "file with `images` that each have a `file_name`."
        )
    return [image if isinstance(image, tuple) else (None, None) for image in images]


def _image_folder(uri: str, names: list[str]) -> str:
    """The URI of the folder to which the names are relative."""
    folders = _candidate_folders(uri)
    for name in names[:_NAMES_TRIED]:
        for folder in folders:
            if exists(join_uri(folder, name)):
                return folder
    if all(is_outside(join_uri(folders[0], name)) for name in names):  # rejected one by one
        return folders[0]
    raise CorpusError(
        f"The images of {display(uri)} (the first is {display(names[0])}) are in none of "
        f"{', '.join(map(display, folders))}; put the JSON file beside its images."
    )


def _candidate_folders(uri: str) -> list[str]:
    folder = parent_uri(uri)
    parent = parent_uri(folder)
    # `instances_train2017.json` names the images of `train2017/`.
    split = file_name(uri).rpartition(".")[0].rpartition("_")[2]
    candidates = [
        folder,
        join_uri(folder, "images"),
        parent,
        join_uri(parent, "images"),
        join_uri(parent, split),
        join_uri(join_uri(parent, "images"), split),
    ]
    return list(dict.fromkeys(candidates))


def _add_remote(folder: str, names: list[str], builder: ListingBuilder) -> None:
    # Folder by folder: a request per image would take hours on an object store.
    wanted = pa.array(sorted(set(map(_remote_uris(folder), names))))
    entries = all_files_below(folder).entries  # what the file names is meant, hidden or not
    named = entries.filter(pc.is_in(entries["uri"], wanted))
    images = pa.repeat(IMAGE, named.num_rows)
    builder.add_entries(named.set_column(named.schema.get_field_index("kind"), "kind", images))
    found = pc.is_in(wanted, entries["uri"].combine_chunks())
    for uri in wanted.filter(pc.invert(found)).to_pylist():
        builder.reject(uri, OUTSIDE_ROOTS if is_outside(uri) else MISSING)


def _remote_uris(folder: str) -> Callable[[str], str]:
    """The function from a name in a remote folder to its URI."""
    file_system, root = resolve(folder)
    uri_of = remote_namer(file_system)
    return lambda name: uri_of(posixpath.normpath(f"{root}/{name}"))
