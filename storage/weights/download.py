"""Downloads of published weights: each file appears complete and verified, or not at all."""

from __future__ import annotations

from pathlib import Path

from storage.errors.exceptions import WeightsError
from storage.web.transfers import DownloadError
from storage.weights.files import publishing, sha256_of, weights_folder
from storage.weights.hub_download import fetch_hub_folder
from storage.weights.hub_folders import is_hub_folder
from storage.weights.mirrors import checked_source, places_of, receive_from
from storage.weights.registry import (
    Download,
    PublishedWeights,
    named,
    parse_clip,
    published,
)
from storage.weights.resolving import (
    Record,
    adopt,
    cached_file,
    read_record,
    record_path,
    write_record,
)
from storage.weights.state_dicts import looks_like_weights


def fetch(name: str, progress: bool = True, source: str = "") -> Path:
    """Download published weights into the folder, unless they are there and intact.

    Models with a tokenizer of their own are fetched as folders (`hub_download`).

    The file appears under its name only when it is complete and verified. Addresses are tried in
    order. The digest recorded at the first fetch is binding: other bytes are refused.

    Args:
        name: `nq20`, `nq10`, one of ZUTIS's such as `coco_vit_b_16`, `ARCH:TAG`, or
            `hf-hub:OWNER/NAME`.
        progress: show a bar on a terminal's standard error.
        source: folder, or address of a mirror, to take them from in place of the publisher's.

    Returns:
        The path of the file, or of the folder.

    Raises:
        WeightsError: the name is unknown, or no address served the file (the text names them all,
            why each failed, and where to put the file by hand), or there is no such folder.
        StorageError: the folder can't be written or the disk is full.
    """
    source = checked_source(source) if source else ""
    if named(name) is None and ":" in name and is_hub_folder(spec := parse_clip(name)):
        return fetch_hub_folder(spec, progress, source)
    weights = published(name)
    record = read_record(weights.stem)
    path = cached_file(weights.stem, record)
    if path is not None:
        record = record or adopt(weights, path)
        if sha256_of(path) == record.sha256:
            return path
    failures = []
    for download in weights.downloads:
        expected = download.sha256 or _recorded_sha256(download, record)
        for place in places_of(source, weights, download) if source else [download.url]:
            try:
                return _fetch_from(weights, place, download.suffix, expected, progress)
            except DownloadError as error:
                failures.append(f"{place} ({error})")
    target = weights_folder() / f"{weights.stem}{weights.downloads[0].suffix}"
    raise WeightsError(
        f"The weights {weights.name} can't be downloaded: {'; '.join(failures)}; check the network,"
        f" or download the file elsewhere and put it at {target}."
    )


def _recorded_sha256(download: Download, record: Record | None) -> str | None:
    """The sha256 that an address must serve; weights in another format have another."""
    if record is None or Path(record.file).suffix != download.suffix:
        return None
    return record.sha256


def _fetch_from(
    weights: PublishedWeights, place: str, suffix: str, expected: str | None, progress: bool
) -> Path:
    path = weights_folder() / f"{weights.stem}{suffix}"
    with publishing(path) as file:
        digest, size = receive_from(place, file, weights.name, progress)
        if expected is not None and digest != expected:
            raise DownloadError(
                f"it serves other bytes, sha256 {digest}, than the {expected} on record; if the"
                f" change is wanted, delete {record_path(weights.stem)} first"
            )
        file.flush()
        if not looks_like_weights(Path(file.name)):
            # Login pages and error pages come with status 200 too.
            raise DownloadError("it serves something that is not a file of weights")
    record = Record(name=weights.name, file=path.name, url=place, sha256=digest, size=size)
    write_record(weights.stem, record)
    return path
