"""Resolution of model weights, given by name, path or random seed, to verified files.

    spec = parse_clip("ViT-B-32-quickgelu:openai")
    weights = resolve(spec)              # digest, and the path to read

`download.fetch` downloads published files, `state_dicts.load_state_dict` reads them.

Published weights live in one cache folder. Each has a record beside it with the address it came
from, its size and its sha256; a file that no longer agrees with its record is never used. The
folder is `platformdirs`' cache folder for zutis, or `ZUTIS_WEIGHTS`. Weights that are part of this
package (`made-ViT-8:demo`) are used in place, without a record. Models with a tokenizer of their
own are folders (`model_folders`, `hub_folders`), and resolve likewise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from storage.access.roots import refuse_path
from storage.errors.exceptions import StorageError, WeightsError
from storage.files.json_files import is_text, parse_json
from storage.files.user_files import RECORD, is_file, is_folder, read_path, user_path
from storage.weights.activation import check_activation
from storage.weights.files import digest_of, sha256_of, weights_folder, write_json
from storage.weights.hub_folders import (
    changed_file,
    folder_of,
    hub_folder,
    hub_records,
    is_hub_folder,
    read_hub_record,
    record_of,
    resolve_hub_folder,
)
from storage.weights.model_folders import ModelFolder, open_model_folder
from storage.weights.open_clip_configs import architecture_of
from storage.weights.registry import (
    HF_HUB,
    LOCAL_DIR,
    WEIGHTS_SUFFIXES,
    ClipSpec,
    PublishedWeights,
    SelfMaskSpec,
    clip_stem,
    is_path,
    named,
    parse_clip,
    published,
    seed_of,
    well_known,
)
from storage.weights.shipped import ShippedWeights, shipped
from storage.weights.state_dicts import require_weights


@dataclass(frozen=True, kw_only=True)
class ResolvedWeights:
    """Weights that exist and are intact."""

    kind: Literal["random", "file", "folder"]
    seed: int | None
    """Of random weights."""
    path: Path | None
    """Of weights in a file, which may be one of a folder's."""
    digest: str
    """The weights' part of artifact keys: the file's sha256 in hex, `random:SEED`, or of a folder
    the digest of the model."""
    untrained: bool
    """Whether results with these weights are meaningless, and must be marked as such."""
    label: str
    """For people: the spec, with `(untrained)` where that is so."""
    folder: Path | None = None
    """Of a model that is kept as one."""
    architecture: str = ""
    """Of a model in a folder, from its configuration; else the spec has it."""


def resolve(spec: ClipSpec | SelfMaskSpec) -> ResolvedWeights:
    """Find the weights and verify them; nothing is downloaded and no model is built.

    A file that was put into the folder by hand is recorded the first time it is seen. Weights that
    are recorded resolve without importing torch.

    Raises:
        OutsideRootsError: it is the path of a file or folder outside the roots.
        WeightsError: the weights are unknown; or the file is missing (the message has its
            address and the place for it), or its bytes differ from the record.
    """
    seed = seed_of(spec.weights)
    if seed is not None:
        digest = f"random:{seed}"
        return ResolvedWeights(
            kind="random",
            seed=seed,
            path=None,
            digest=digest,
            untrained=True,
            label=f"{spec} (untrained)",
        )
    if isinstance(spec, ClipSpec) and (model := _model_folder(spec, digest_of)):
        return ResolvedWeights(
            kind="folder",
            seed=None,
            path=model.weights,
            digest=model.digest,
            untrained=False,
            label=str(spec),
            folder=model.path,
            architecture=_architecture(spec, model),
        )
    if is_path(spec.weights):
        path = user_path(spec.weights)
        refuse_path(path)
        require_weights(path)
        digest = digest_of(path)
        if isinstance(spec, ClipSpec):
            check_activation(spec, path, digest, _recorded_names())
    elif part := shipped(str(spec)):
        path, digest = part.path, _shipped_digest(part)
    else:
        path, digest = _resolve_published(spec)
    return ResolvedWeights(
        kind="file", seed=None, path=path, digest=digest, untrained=False, label=str(spec)
    )


def _model_folder(spec: ClipSpec, digest_of: Callable[[Path], str]) -> ModelFolder | None:
    """The folder of a model that is kept as one; None for weights alone."""
    if spec.architecture == LOCAL_DIR:
        refuse_path(user_path(spec.weights))
        return open_model_folder(user_path(spec.weights), digest_of)
    return resolve_hub_folder(spec, digest_of) if is_hub_folder(spec) else None


def _architecture(spec: ClipSpec, model: ModelFolder) -> str:
    in_one_place = spec.architecture in (LOCAL_DIR, HF_HUB)
    return architecture_of(model.config) if in_one_place else spec.architecture


def _shipped_digest(weights: ShippedWeights) -> str:
    if not weights.path.is_file():
        raise WeightsError(
            f"The weights {weights.name} are part of zutis, but {weights.path} is missing; install"
            f" zutis again, or make them with `{weights.maker}`."
        )
    return digest_of(weights.path)


def _resolve_published(spec: ClipSpec | SelfMaskSpec) -> tuple[Path, str]:
    name = str(spec)
    stem = _stem(name)
    record = read_record(stem)
    path = cached_file(stem, record)
    if path is None:
        raise _missing(published(name))
    if record is None:
        record = adopt(published(name), path)
    digest = digest_of(path)
    if digest != record.sha256:
        raise _changed(name, path, record, digest)
    return path, digest


def _stem(name: str) -> str:
    weights = named(name)
    return weights.stem if weights else clip_stem(name)


def _missing(weights: PublishedWeights) -> WeightsError:
    first = weights.downloads[0]
    target = weights_folder() / f"{weights.stem}{first.suffix}"
    return WeightsError(
        f"The weights {weights.name} are not on this machine: {target} is missing; run `zutis"
        f" weights fetch {weights.name}`, or, without a network here, download {_urls(weights)}"
        f" elsewhere and put it there under that name."
    )


def _changed(name: str, path: Path, record: Record, digest: str) -> WeightsError:
    return WeightsError(
        f"The weights {name} in {path} are damaged or changed: their sha256 is {digest}, recorded"
        f" is {record.sha256}; delete the file and run `zutis weights fetch {name}` again."
    )


def _urls(weights: PublishedWeights) -> str:
    return " or ".join(download.url for download in weights.downloads)


# --- digests ------------------------------------------------------------------------------------


def _recorded_names() -> dict[str, str]:
    """Names of the weights that have records, by sha256."""
    records = (read_record(path.stem) for path in weights_folder().glob("*.json"))
    return {record.sha256: record.name for record in records if record}


# --- records ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Record:
    """The record of a cached file; kept as JSON beside it."""

    name: str
    file: str
    url: str | None
    """None for a file that was put there by hand."""
    sha256: str
    size: int


def record_path(stem: str) -> Path:
    """The path of the record of the weights with this stem."""
    return weights_folder() / f"{stem}.json"


def read_record(stem: str) -> Record | None:
    """The record of the weights with this stem, or None if there is none.

    Raises:
        WeightsError: it can't be read.
    """
    path = record_path(stem)
    try:
        record = Record(**parse_json(read_path(path, RECORD)))
        if not all(is_text(each) for each in (record.name, record.file, record.sha256)):
            raise ValueError("its name, file or sha256 is no text")
        return record
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(
            f"The record {path} can't be read ({error}); delete it, and the weights will be"
            f" recorded anew."
        ) from error


def write_record(stem: str, record: Record) -> None:
    """Keep a record; raises `StorageError` where the folder can't be written."""
    write_json(record_path(stem), vars(record))


def cached_file(stem: str, record: Record | None) -> Path | None:
    """The file that a record names, or the first that could be these weights; None if absent."""
    names = [record.file] if record else [f"{stem}{suffix}" for suffix in WEIGHTS_SUFFIXES]
    paths = (weights_folder() / name for name in names)
    return next((path for path in paths if path.is_file()), None)


def adopt(weights: PublishedWeights, path: Path) -> Record:
    """Record a file that was put into the folder by hand.

    Raises:
        WeightsError: it has another digest than the published one.
    """
    digest = digest_of(path)
    _check_known(weights, path, digest)
    record = Record(
        name=weights.name, file=path.name, url=None, sha256=digest, size=path.stat().st_size
    )
    with contextlib.suppress(StorageError):  # a folder that others manage may be read-only
        write_record(weights.stem, record)
    return record


def _check_known(weights: PublishedWeights, path: Path, digest: str) -> None:
    known = {download.sha256 for download in weights.downloads if download.sha256}
    if known and digest not in known:
        raise WeightsError(
            f"{path} is not {weights.name}: its sha256 is {digest}, published is"
            f" {' or '.join(sorted(known))}; delete it and run `zutis weights fetch"
            f" {weights.name}`."
        )


# --- checking -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CheckedWeights:
    """The result of `check` for one file."""

    name: str
    path: Path
    status: Literal["ok", "changed", "missing", "unrecorded"]
    """`unrecorded`: a file by its path, with nothing to compare it to."""
    sha256: str | None
    """Of the bytes as they are, of a folder the model's digest; None where the file is missing."""
    recorded: str | None


def cached_weights() -> dict[str, Path | None]:
    """The weights in the folder, by name, sorted; None where a recorded file is gone.

    A file that was put there by hand counts once it has been used; the well-known ones count
    immediately.

    Raises:
        WeightsError: a record can't be read.
    """
    stems = {path.stem for path in weights_folder().glob("*.json")}
    records = {stem: read_record(stem) for stem in stems}
    files = {record.name: cached_file(stem, record) for stem, record in records.items() if record}
    for name in well_known():
        by_hand = cached_file(_stem(name), None)
        if by_hand is not None:
            files.setdefault(name, by_hand)
    for record in hub_records():
        folder = folder_of(record.name)
        files[record.name] = folder if folder.is_dir() else None
    return dict(sorted(files.items()))


def check(name_or_path: str | None = None) -> list[CheckedWeights]:
    """Read cached weights in full and compare them with their records.

    Args:
        name_or_path: a published or shipped name, or the path of any file or of a model's folder;
            None for all in the weights folder.

    Returns:
        One entry for each, sorted by name. Empty only if nothing is cached.

    Raises:
        WeightsError: the name is unknown, a file or record can't be read, or a file put there by
            hand is not what it should be.
    """
    if name_or_path is None:
        return [_check_name(name) for name in cached_weights()]
    if part := shipped(name_or_path):
        return [_check_shipped(part)]
    if named(name_or_path) is None and (found := _check_path(name_or_path)):
        return [found]
    return [_check_name(name_or_path)]


def _check_path(text: str) -> CheckedWeights | None:
    """The check of a file or a folder; None if the text is a name."""
    path = user_path(text.removeprefix(f"{LOCAL_DIR}:"))
    if text.startswith(f"{LOCAL_DIR}:") or (":" not in text and is_path(text)):
        refuse_path(path)
    if is_folder(path) or text.startswith(f"{LOCAL_DIR}:"):
        return _check_folder(path)
    if is_file(path):
        return CheckedWeights(
            name=str(path), path=path, status="unrecorded", sha256=sha256_of(path), recorded=None
        )
    if ":" not in text and is_path(text):
        raise WeightsError(f"There is no weights file {text}; check the path.")
    return None


def _check_name(name: str) -> CheckedWeights:
    if named(name) or ":" not in name or not is_hub_folder(parse_clip(name)):
        return _check_published(published(name).name)
    return _check_hub_folder(parse_clip(name))


def _check_folder(folder: Path) -> CheckedWeights:
    model = open_model_folder(folder, sha256_of)
    return CheckedWeights(
        name=str(folder), path=folder, status="unrecorded", sha256=model.digest, recorded=None
    )


def _check_hub_folder(spec: ClipSpec) -> CheckedWeights:
    name = str(spec)
    folder, record = folder_of(name), read_hub_record(record_of(name))
    if record is None:
        hub_folder(spec)  # raises where it is not published
    whole = record is not None and all((folder / file).is_file() for file in record.files)
    if record is None or not whole:
        return CheckedWeights(name=name, path=folder, status="missing", sha256=None, recorded=None)
    model = open_model_folder(folder, sha256_of)
    damaged = changed_file(record, model)
    return CheckedWeights(
        name=name,
        path=folder / damaged if damaged else folder,
        status="changed" if damaged else "ok",
        sha256=model.digest,
        recorded=None,
    )


def _check_shipped(weights: ShippedWeights) -> CheckedWeights:
    """Shipped weights have no record: they are as intact as the installation."""
    is_there = weights.path.is_file()
    return CheckedWeights(
        name=weights.name,
        path=weights.path,
        status="ok" if is_there else "missing",
        sha256=sha256_of(weights.path) if is_there else None,
        recorded=None,
    )


def _check_published(name: str) -> CheckedWeights:
    stem = _stem(name)
    record = read_record(stem)
    path = cached_file(stem, record)
    if path is None:
        weights_file = record.file if record else f"{stem}{published(name).downloads[0].suffix}"
        return CheckedWeights(
            name=name,
            path=weights_folder() / weights_file,
            status="missing",
            sha256=None,
            recorded=record.sha256 if record else None,
        )
    record = record or adopt(published(name), path)
    digest = sha256_of(path)
    status: Literal["ok", "changed"] = "ok" if digest == record.sha256 else "changed"
    return CheckedWeights(
        name=name, path=path, status=status, sha256=digest, recorded=record.sha256
    )
