"""Data sets that Hugging Face's `datasets` has saved to disk: which Arrow files they consist of."""

from __future__ import annotations

from typing import Any

from storage.errors.exceptions import CorpusError
from storage.files.filesystems import display, exists, join_uri
from storage.files.json_files import is_text, load_json
from storage.files.user_files import FILE_LIST

_SPLITS = "dataset_dict.json"
_STATE = "state.json"
_INFO = "dataset_info.json"


def is_saved_dataset(folder: str) -> bool:
    """Whether the folder at a URI is what `save_to_disk` writes, with splits or without.

    Raises:
        StorageError: this can't be found out.
    """
    if exists(join_uri(folder, _SPLITS)):
        return True
    return all(exists(join_uri(folder, name)) for name in (_STATE, _INFO))


def saved_files(folder: str) -> list[str]:
    """The URIs of the Arrow files of a saved data set, of all its splits, sorted.

    Raises:
        CorpusError: its JSON files are damaged, or name files outside of it.
        StorageError: they can't be read.
    """
    splits = join_uri(folder, _SPLITS)
    if not exists(splits):
        return sorted(_files_of_split(folder))
    names = _document(splits).get("splits")
    return sorted(
        file
        for name in _plain_names(splits, names)
        for file in _files_of_split(join_uri(folder, name))
    )


def _files_of_split(folder: str) -> list[str]:
    state = join_uri(folder, _STATE)
    listed = _document(state).get("_data_files")
    names = [each.get("filename") if isinstance(each, dict) else None for each in listed] if (
        isinstance(listed, list)
    ) else listed  # fmt: skip
    return [join_uri(folder, name) for name in _plain_names(state, names)]


def _document(uri: str) -> dict[str, Any]:
    try:
        document = load_json(uri, FILE_LIST)
    except ValueError as error:
        raise _damaged(uri, f"no valid JSON, {error}") from error
    if not isinstance(document, dict):
        raise _damaged(uri, "no JSON object")
    return document


def _plain_names(uri: str, names: object) -> list[str]:
    if not isinstance(names, list) or not names:
        raise _damaged(uri, "it lists nothing")
    for name in names:
        if not is_text(name) or "/" in name or "\\" in name or name in ("", ".", ".."):
            raise _damaged(uri, "it lists what is no name of a file or folder beside it")
    return names


def _damaged(uri: str, why: str) -> CorpusError:
    return CorpusError(
        f"The saved data set's {display(uri)} can't be used ({why}); save the data set again, or "
        "name its .arrow files by a pattern."
    )
