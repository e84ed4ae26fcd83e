"""Downloads of models from the Hugging Face hub: configuration, tokenizer and weights.

The revision is looked up once, so that all files of a repository are of one revision; the record
holds addresses of that revision. The record is written last and makes the model exist: an
interrupted download leaves nothing that could be taken for a model.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors.exceptions import WeightsError
from storage.files.json_files import parse_json
from storage.files.user_files import MODEL_CONFIG, read_path
from storage.web.transfers import DownloadError, receive
from storage.weights.files import digest_of, publishing, sha256_of
from storage.weights.hub_folders import (
    HubFile,
    HubFolder,
    HubRecord,
    folder_of,
    hub_folder,
    read_hub_record,
    record_of,
    write_hub_record,
)
from storage.weights.mirrors import is_address, receive_from, within
from storage.weights.model_folders import CONFIG, check_config, open_model_folder, tokenizer_files
from storage.weights.open_clip_configs import hub_tokenizer
from storage.weights.registry import LOCAL_DIR, ClipSpec
from storage.weights.state_dicts import looks_like_weights


def fetch_hub_folder(spec: ClipSpec, progress: bool = True, source: str = "") -> Path:
    """Download a published model, unless it is there and intact.

    The record of the first fetch is binding: a damaged file is fetched again from its recorded
    address, and other bytes are refused.

    Args:
        spec: one that `is_hub_folder`.
        progress: show a bar on a terminal's standard error.
        source: address of a mirror of the hub, or a folder: one with the model's files, or with
            the repositories' folders, `OWNER/NAME`; empty: the hub.

    Returns:
        The folder.

    Raises:
        WeightsError: there is no such model, it needs more than its files, or the hub doesn't
            serve them.
        StorageError: the folder can't be written or the disk is full.
    """
    model = hub_folder(spec)
    record = read_hub_record(record_of(model.name))
    folder = folder_of(model.name)
    try:
        if record is not None:
            _repair(model, record, progress)
        else:
            record = HubRecord(name=model.name, files=_fetch(model, progress, source))
            open_model_folder(folder, digest_of)
            write_hub_record(record)
    except DownloadError as error:
        raise WeightsError(
            f"The model {model.name} can't be fetched: {error}; check the network, or download it"
            f" elsewhere and give its folder as --clip {LOCAL_DIR}:FOLDER."
        ) from error
    return folder


def _repair(model: HubFolder, record: HubRecord, progress: bool) -> None:
    """Fetch missing and damaged files, from the addresses on record."""
    folder = folder_of(record.name)
    for name, file in record.files.items():
        path = folder / name
        if path.is_file() and sha256_of(path) == file.sha256:
            continue
        if file.url is None:
            _write_config(model, path, file.sha256)
        else:
            _receive_file(file.url, path, file.sha256, progress)


def _fetch(model: HubFolder, progress: bool, source: str) -> dict[str, HubFile]:
    """All files of a model, the large one last: an interruption costs no more than that."""
    folder = folder_of(model.name)
    repository = _find(model.repository, source)
    files: dict[str, HubFile] = {}
    if model.config is not None:
        files[CONFIG] = HubFile(sha256=_write_config(model, folder / CONFIG), url=None)
    elif CONFIG in repository.files:
        files[CONFIG] = _fetch_one(repository, CONFIG, folder, progress)
    else:
        raise WeightsError(
            f"{model.name} has no {CONFIG}, so that open_clip can't build it: look for a repository"
            " with open_clip's files, such as hf-hub:timm/ViT-B-16-SigLIP2."
        )
    config = _read(folder / CONFIG)
    check_config(config, f"{CONFIG} of {model.name}")
    if owner := hub_tokenizer(config["model_cfg"]):
        tokenizer = repository if owner == model.repository else _find(owner, source)
        for name in tokenizer_files(tokenizer.files):
            files[name] = _fetch_one(tokenizer, name, folder, progress)
    weights = next((name for name in model.weights if name in repository.files), None)
    if weights is None:
        where = source or f"https://huggingface.co/{model.repository}"
        raise WeightsError(
            f"{model.name} has no weights that open_clip could load: of"
            f" {' and '.join(model.weights)} there is none in {where}."
        )
    files[weights] = _fetch_one(repository, weights, folder, progress)
    return files


def _write_config(model: HubFolder, path: Path, expected: str | None = None) -> str:
    """Write a tag's configuration; returns its sha256."""
    with publishing(path) as file:
        file.write(json.dumps(model.config, indent=1, sort_keys=True).encode())
    digest = sha256_of(path)
    if expected is not None and digest != expected:
        raise DownloadError(
            f"open_clip has another configuration for it than the one on record; if the change is"
            f" wanted, delete {record_of(model.name)} first"
        )
    return digest


def _read(path: Path) -> Any:
    try:
        return parse_json(read_path(path, MODEL_CONFIG))
    except (OSError, ValueError) as error:
        raise DownloadError(f"its {CONFIG} is no JSON ({error})") from error


# --- the hub ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Repository:
    """A repository's files: the address or folder that they are in, and sha256 in hex by name
    (None where not known)."""

    place: str
    files: Mapping[str, str | None]


def _hub() -> str:
    """The hub's address; `HF_ENDPOINT` names a mirror, as for all of Hugging Face's tools."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _find(repository: str, source: str) -> _Repository:
    """A repository on the hub, on a mirror of it, or in a folder."""
    if not source or is_address(source):
        return _list(repository, source or _hub())
    for folder in (Path(source, repository), Path(source)):
        paths = folder.iterdir() if folder.is_dir() else ()
        if files := [path.name for path in paths if path.is_file()]:
            return _Repository(place=str(folder), files=dict.fromkeys(files))
    raise DownloadError(f"{source} has no folder {repository}, and no files of its own")


def _list(repository: str, hub: str) -> _Repository:
    url = f"{hub}/api/models/{repository}?blobs=true"
    content = io.BytesIO()
    try:
        receive(url, content, repository, False)
        listing = parse_json(content.getvalue())
        files = {
            str(file["rfilename"]): (file.get("lfs") or {}).get("sha256")
            for file in listing["siblings"]
        }
        place = f"{hub}/{repository}/resolve/{listing['sha']}"
        return _Repository(place=place, files=files)
    except DownloadError as error:
        raise DownloadError(f"{url} ({error})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DownloadError(f"{url} (it answers with no list of files)") from error


def _fetch_one(repository: _Repository, name: str, folder: Path, progress: bool) -> HubFile:
    place = within(repository.place, name)
    digest = _receive_file(place, folder / name, repository.files[name], progress)
    return HubFile(sha256=digest, url=place)


def _receive_file(url: str, path: Path, expected: str | None, progress: bool) -> str:
    """Fetch a file that appears complete and verified, or not at all; returns its sha256."""
    with publishing(path) as file:
        try:
            digest, _ = receive_from(url, file, path.name, progress)
        except DownloadError as error:
            raise DownloadError(f"{url} ({error})") from error
        if expected is not None and digest != expected:
            raise DownloadError(
                f"{url} (it serves other bytes, sha256 {digest}, than the {expected} on record)"
            )
        file.flush()
        is_weights = path.suffix not in (".json", ".txt", ".model")
        if is_weights and not looks_like_weights(Path(file.name)):
            raise DownloadError(f"{url} (it serves something that is not a file of weights)")
    return digest
