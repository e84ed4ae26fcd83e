"""COCO-style JSON files of a corpus: the images that they name, found beside them."""

from __future__ import annotations

import io
import json
import posixpath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.corpus_folders import all_files_below, remote_namer
from storage.corpus_listing import IMAGE, ListingBuilder
from storage.errors import CorpusError
from storage.file_kinds import file_name, is_web
from storage.filesystems import (
    display,
    exists,
    is_local,
    join_uri,
    open_binary,
    parent_uri,
    resolve,
    translated_errors,
)
from storage.reject_reasons import MISSING, NO_URI

# A first image that was deleted should not hide where the others are.
_NAMES_TRIED = 20


def list_coco(uri: str, builder: ListingBuilder) -> None:
    """Adds the files of the JSON's `images[].file_name`; those that are missing are rejected.

    The annotations are passed over while parsing, so memory is that of the JSON's text.

    Raises:
        CorpusError: not valid JSON, no list `images`, or its files are in none of the folders.
        StorageError: a file system can't be reached.
    """
    names = []
    for number, name in enumerate(_image_names(uri)):
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
        for name in names:
            builder.add(join_uri(folder, name), -1, "", IMAGE)
    else:
        _add_remote(folder, names, builder)


def _image_names(uri: str) -> list[str | None]:
    def reduce(value: dict[str, Any]) -> Any:
        # Called for each object as soon as it is complete, innermost first: an annotation
        # shrinks to None and an image to its name before the next one is parsed.
        if "images" in value:
            return value
        name = value.get("file_name")
        return name if isinstance(name, str) else None

    with open_binary(uri) as file, translated_errors("read", uri):
        try:
            document = json.load(io.TextIOWrapper(file, "utf-8-sig"), object_hook=reduce)
        except (ValueError, RecursionError) as error:  # also where it is not UTF-8
            raise CorpusError(
                f"The file {display(uri)} is not valid JSON ({error}); download or write it again."
            ) from error
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list):
        raise CorpusError(
            f"The file {display(uri)} has no list `images`; a corpus can be a COCO-style JSON "
            "file with `images` that each have a `file_name`."
        )
    return [name if isinstance(name, str) else None for name in images]


def _image_folder(uri: str, names: list[str]) -> str:
    """The URI of the folder to which the names are relative."""
    folders = _candidate_folders(uri)
    for name in names[:_NAMES_TRIED]:
        for folder in folders:
            if exists(join_uri(folder, name)):
                return folder
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
    file_system, root = resolve(folder)
    uri_of = remote_namer(folder, file_system)
    wanted = pa.array(sorted({uri_of(posixpath.normpath(f"{root}/{name}")) for name in names}))
    entries = all_files_below(folder).entries  # what the file names is meant, hidden or not
    named = entries.filter(pc.is_in(entries["uri"], wanted))
    images = pa.repeat(IMAGE, named.num_rows)
    builder.add_entries(named.set_column(named.schema.get_field_index("kind"), "kind", images))
    found = pc.is_in(wanted, entries["uri"].combine_chunks())
    for uri in wanted.filter(pc.invert(found)).to_pylist():
        builder.reject(uri, MISSING)
