"""Model weights by name, by path or made at random: which file they are, and that it is unharmed.

    spec = parse_clip("ViT-B-32-quickgelu:openai")
    weights = resolve(spec)              # digest, and the path to read
    tensors = load_state_dict(weights.path)

Published weights live in one cache folder. Each has a record beside it with the address it came
from, its size and its sha256; a file that no longer agrees with its record is never used. The
folder is `platformdirs`' cache folder for zutis, or what `ZUTIS_WEIGHTS` says.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import pickle
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal

import platformdirs

from storage.errors import StorageError, WeightsError
from storage.weights_registry import (
    RECOMMENDED_CLIP,
    SELFMASK,
    WEIGHTS_SUFFIXES,
    ClipSpec,
    Download,
    PublishedWeights,
    SelfMaskSpec,
    clip_stem,
    is_path,
    parse_clip,
    parse_selfmask,
    published,
    seed_of,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CheckedWeights",
    "ClipSpec",
    "ResolvedWeights",
    "SelfMaskSpec",
    "cached_weights",
    "check",
    "fetch",
    "load_state_dict",
    "parse_clip",
    "parse_selfmask",
    "resolve",
    "weights_folder",
]

_CHUNK_BYTES: Final = 1 << 20
_TIMEOUT_SECONDS: Final = 60.0
"""For connecting and for each read: a server that goes quiet must not hang the command."""


# --- which file, and is it unharmed -------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ResolvedWeights:
    """Weights that are there and unharmed."""

    kind: Literal["random", "file"]
    seed: int | None
    """Of random weights."""
    path: Path | None
    """Of weights in a file."""
    digest: str
    """What enters artifacts' keys: the file's sha256 in hex, or `random:SEED`."""
    untrained: bool
    """Results made with these weights mean nothing, and must be shown with a word that says so."""
    label: str
    """For people: the spec, with `(untrained)` where that is so."""


def weights_folder() -> Path:
    """Where published weights are kept: `ZUTIS_WEIGHTS`, or a folder in the user's cache."""
    override = os.environ.get("ZUTIS_WEIGHTS")
    if override:
        return Path(override).expanduser()
    return Path(platformdirs.user_cache_dir("zutis")) / "weights"


def resolve(spec: ClipSpec | SelfMaskSpec) -> ResolvedWeights:
    """Find the weights and verify them; nothing is downloaded and no model is built.

    A file that was put into the folder by hand is recorded the first time it is seen. Weights that
    are recorded resolve without importing torch.

    Raises:
        WeightsError: the weights are unknown; or the file is missing (the text says where it would
            come from and where to put it), or its bytes are not those that were recorded.
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
    if is_path(spec.weights):
        path = Path(spec.weights).expanduser()
        digest = _digest(path)
    else:
        path, digest = _resolve_published(spec)
    return ResolvedWeights(
        kind="file", seed=None, path=path, digest=digest, untrained=False, label=str(spec)
    )


def _resolve_published(spec: ClipSpec | SelfMaskSpec) -> tuple[Path, str]:
    name = str(spec)
    stem = _stem(name)
    record = _read_record(stem)
    path = _cached_file(stem, record)
    if path is None:
        raise _missing(published(name))
    if record is None:
        record = _adopt(published(name), path)
    digest = _digest(path)
    if digest != record.sha256:
        raise _changed(name, path, record, digest)
    return path, digest


def _stem(name: str) -> str:
    return SELFMASK[name].stem if name in SELFMASK else clip_stem(name)


def _missing(weights: PublishedWeights) -> WeightsError:
    first = weights.downloads[0]
    target = weights_folder() / f"{weights.stem}{first.suffix}"
    return WeightsError(
        f"The weights {weights.name} are not on this machine: {target} is missing; run `zutis"
        f" weights fetch {weights.name}`, or, without a network here, download {_urls(weights)}"
        f" elsewhere and put it there under that name."
    )


def _changed(name: str, path: Path, record: _Record, digest: str) -> WeightsError:
    return WeightsError(
        f"The weights {name} in {path} are damaged or changed: their sha256 is {digest}, recorded"
        f" is {record.sha256}; delete the file and run `zutis weights fetch {name}` again."
    )


def _urls(weights: PublishedWeights) -> str:
    return " or ".join(download.url for download in weights.downloads)


# --- digests ------------------------------------------------------------------------------------


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise WeightsError(f"There is no weights file {path}; check the path.") from error
    except OSError as error:
        raise WeightsError(
            f"The weights file {path} can't be read ({error.strerror}); check the path and its"
            f" permissions."
        ) from error


def _digest(path: Path) -> str:
    """The file's sha256, remembered by path, size and time of change.

    Hashing a gigabyte takes seconds, which a run that finds everything cached should not spend.
    `check` doesn't trust this memory: it reads the bytes.
    """
    try:
        status = path.stat()
    except OSError:
        return _sha256(path)  # raises, with the reason
    location = str(path.absolute())
    name = hashlib.sha256(location.encode(errors="surrogateescape")).hexdigest()
    memory = weights_folder() / "digests" / f"{name}.json"
    key = [location, status.st_size, status.st_mtime_ns]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(memory.read_text(encoding="utf-8"))
        if known["file"] == key:
            return str(known["sha256"])
    digest = _sha256(path)
    # Where the folder can't be written, each run hashes again: slower, not wrong.
    with contextlib.suppress(StorageError):
        _write_json(memory, {"file": key, "sha256": digest})
    return digest


# --- records ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What is known about a cached file; kept as JSON beside it."""

    name: str
    file: str
    url: str | None
    """None for a file that was put there by hand."""
    sha256: str
    size: int


def _record_path(stem: str) -> Path:
    return weights_folder() / f"{stem}.json"


def _read_record(stem: str) -> _Record | None:
    path = _record_path(stem)
    try:
        return _Record(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(
            f"The record {path} can't be read ({error}); delete it, and the weights will be"
            f" recorded anew."
        ) from error


def _write_record(stem: str, record: _Record) -> None:
    _write_json(_record_path(stem), vars(record))


def _cached_file(stem: str, record: _Record | None) -> Path | None:
    names = [record.file] if record else [f"{stem}{suffix}" for suffix in WEIGHTS_SUFFIXES]
    paths = (weights_folder() / name for name in names)
    return next((path for path in paths if path.is_file()), None)


def _adopt(weights: PublishedWeights, path: Path) -> _Record:
    """Record a file that was put into the folder by hand, if it is what it should be."""
    digest = _digest(path)
    _check_known(weights, path, digest)
    record = _Record(
        name=weights.name, file=path.name, url=None, sha256=digest, size=path.stat().st_size
    )
    with contextlib.suppress(StorageError):  # a folder that others manage may be read-only
        _write_record(weights.stem, record)
    return record


def _check_known(weights: PublishedWeights, path: Path, digest: str) -> None:
    known = {download.sha256 for download in weights.downloads if download.sha256}
    if known and digest not in known:
        raise WeightsError(
            f"{path} is not {weights.name}: its sha256 is {digest}, published is"
            f" {' or '.join(sorted(known))}; delete it and run `zutis weights fetch"
            f" {weights.name}`."
        )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with _publishing(path) as file:
        file.write(json.dumps(content, indent=1, sort_keys=True).encode())


@contextlib.contextmanager
def _publishing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that appears under its name complete, or not at all.

    Raises:
        StorageError: the folder can't be written, or the disk is full.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # temporary files are private; a shared cache should be readable
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise StorageError(
            f"{path} can't be written ({error.strerror or error}); free some space there, or set"
            f" ZUTIS_WEIGHTS to a folder that can be written."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


# --- fetching -----------------------------------------------------------------------------------


class _DownloadError(Exception):
    """One address didn't serve the file; the next may."""


def fetch(name: str, progress: bool = True) -> Path:
    """Download published weights into the folder, or find that they are there and unharmed.

    The file appears under its name only when it is complete and verified. Addresses are tried in
    order. What was recorded at the first fetch holds: other bytes are refused.

    Args:
        name: `nq20`, `nq10` or `ARCH:TAG`.
        progress: show a bar on a terminal's standard error.

    Returns:
        The file's path.

    Raises:
        WeightsError: the name is unknown, or no address served the file (the text names them all,
            why each failed, and where to put the file by hand).
        StorageError: the folder can't be written or the disk is full.
    """
    weights = published(name)
    record = _read_record(weights.stem)
    path = _cached_file(weights.stem, record)
    if path is not None:
        record = record or _adopt(weights, path)
        if _sha256(path) == record.sha256:
            return path
    failures = []
    for download in weights.downloads:
        expected = download.sha256 or _recorded_sha256(download, record)
        try:
            return _fetch_from(weights, download, expected, progress)
        except _DownloadError as error:
            failures.append(f"{download.url} ({error})")
    target = weights_folder() / f"{weights.stem}{weights.downloads[0].suffix}"
    raise WeightsError(
        f"The weights {weights.name} can't be downloaded: {'; '.join(failures)}; check the network,"
        f" or download the file elsewhere and put it at {target}."
    )


def _recorded_sha256(download: Download, record: _Record | None) -> str | None:
    """What an address must serve again; weights in another format have another sha256."""
    if record is None or Path(record.file).suffix != download.suffix:
        return None
    return record.sha256


def _fetch_from(
    weights: PublishedWeights, download: Download, expected: str | None, progress: bool
) -> Path:
    path = weights_folder() / f"{weights.stem}{download.suffix}"
    with _publishing(path) as file:
        digest, size = _receive(download.url, file, weights.name, progress)
        if expected is not None and digest != expected:
            raise _DownloadError(
                f"it serves other bytes, sha256 {digest}, than the {expected} on record; if the"
                f" change is wanted, delete {_record_path(weights.stem)} first"
            )
        file.flush()
        if not _looks_like_weights(Path(file.name)):
            # Login pages and error pages come with status 200 too.
            raise _DownloadError("it serves something that is not a file of weights")
    record = _Record(name=weights.name, file=path.name, url=download.url, sha256=digest, size=size)
    _write_record(weights.stem, record)
    return path


def _receive(url: str, file: IO[bytes], label: str, progress: bool) -> tuple[str, int]:
    """Copy what an address serves into a file; returns its sha256 and size in bytes."""
    hasher, size = hashlib.sha256(), 0
    with _opened(url) as response:
        total = response.headers.get("Content-Length")
        expected_size = int(total) if total and total.isdigit() else None
        with _bar(label, expected_size, progress) as advance:
            while chunk := _read(response):
                file.write(chunk)
                hasher.update(chunk)
                size += len(chunk)
                advance(len(chunk))
    if expected_size is not None and size != expected_size:
        raise _DownloadError(f"the connection ended after {size:,} of {expected_size:,} bytes")
    return hasher.hexdigest(), size


def _opened(url: str) -> http.client.HTTPResponse:
    try:
        # Addresses come from the registry and open_clip's table, all of them http or https.
        request = urllib.request.Request(url, headers={"User-Agent": "zutis"})  # noqa: S310
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        raise _DownloadError(f"it answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _DownloadError(f"it can't be reached: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _DownloadError(f"it can't be reached: {error}") from error
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _DownloadError(f"the connection broke: {error}") from error


@contextlib.contextmanager
def _bar(label: str, total: int | None, progress: bool) -> Iterator[Any]:
    if not (progress and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


# --- checking -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CheckedWeights:
    """What `check` found about one file."""

    name: str
    path: Path
    status: Literal["ok", "changed", "missing", "unrecorded"]
    """`unrecorded`: a file by its path, with nothing to compare it to."""
    sha256: str | None
    """Of the bytes as they are; None where the file is missing."""
    recorded: str | None


def cached_weights() -> dict[str, Path | None]:
    """The weights in the folder, by name, sorted; None where a recorded file is gone.

    A file that was put there by hand counts as soon as it has been used once; the well-known ones
    count at once.

    Raises:
        WeightsError: a record can't be read.
    """
    stems = {path.stem for path in weights_folder().glob("*.json")}
    records = {stem: _read_record(stem) for stem in stems}
    files = {record.name: _cached_file(stem, record) for stem, record in records.items() if record}
    for name in (*SELFMASK, *RECOMMENDED_CLIP):
        by_hand = _cached_file(_stem(name), None)
        if by_hand is not None:
            files.setdefault(name, by_hand)
    return dict(sorted(files.items()))


def check(name_or_path: str | None = None) -> list[CheckedWeights]:
    """Read cached weights in full and compare them with their records.

    Args:
        name_or_path: a published name, or the path of any file; None for all in the folder.

    Returns:
        One entry for each, sorted by name. Empty only if nothing is cached.

    Raises:
        WeightsError: the name is unknown, a file or record can't be read, or a file put there by
            hand is not what it should be.
    """
    if name_or_path is None:
        return [_check_published(name) for name in cached_weights()]
    if name_or_path not in SELFMASK and Path(name_or_path).is_file():
        path = Path(name_or_path)
        digest = _sha256(path)
        return [
            CheckedWeights(
                name=str(path), path=path, status="unrecorded", sha256=digest, recorded=None
            )
        ]
    if ":" not in name_or_path and is_path(name_or_path):
        raise WeightsError(f"There is no weights file {name_or_path}; check the path.")
    return [_check_published(published(name_or_path).name)]


def _check_published(name: str) -> CheckedWeights:
    stem = _stem(name)
    record = _read_record(stem)
    path = _cached_file(stem, record)
    if path is None:
        weights_file = record.file if record else f"{stem}{published(name).downloads[0].suffix}"
        return CheckedWeights(
            name=name,
            path=weights_folder() / weights_file,
            status="missing",
            sha256=None,
            recorded=record.sha256 if record else None,
        )
    record = record or _adopt(published(name), path)
    digest = _sha256(path)
    status: Literal["ok", "changed"] = "ok" if digest == record.sha256 else "changed"
    return CheckedWeights(
        name=name, path=path, status=status, sha256=digest, recorded=record.sha256
    )


# --- reading ------------------------------------------------------------------------------------


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file of weights without running anything that is in it.

    Args:
        path: `.safetensors`, or what `torch.save` wrote. A state dict inside `{"state_dict": ...}`
            or `{"model": ...}` is unwrapped, and a `module.` before every name is dropped.

    Returns:
        Parameter name to tensor, on the CPU, with the file's dtypes.

    Raises:
        WeightsError: the file is missing or damaged, is a TorchScript archive, holds other objects
            than tensors, or holds no state dict.
    """
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}; check the path.")
    if not _looks_like_weights(path):
        raise WeightsError(
            f"{path} is no file of weights (neither safetensors nor what torch.save writes), or"
            f" its beginning is damaged; download it again."
        )
    content = _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)
    return _state_dict(path, content)


def _is_safetensors(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def _looks_like_weights(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    # torch.save writes a zip, long ago a bare pickle; safetensors has 8 bytes of length, then JSON.
    return head.startswith((b"PK\x03\x04", b"\x80")) or head[8:9] == b"{"


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a complete safetensors file ({error}); download it again."
        ) from error


def _read_pickle(path: Path) -> object:
    if _is_torchscript(path):
        raise WeightsError(
            f"{path} is a TorchScript archive, which holds a program and not only weights; give a"
            f" safetensors file or a state dict. OpenAI's CLIP is there as such: `zutis weights"
            f" fetch ViT-B-32-quickgelu:openai`."
        )
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds other objects than tensors, and reading those could run code; if you"
            f" trust its source, load it there and save its state dict as safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} is damaged or incomplete; download it again.") from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        # TARGET/constants.pkl is in every TorchScript archive and in nothing of torch.save's.
        return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    from torch import Tensor

    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path} holds no state dict; give a file with named tensors.")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path} holds no plain state dict: {name!r} is a {type(value).__name__}, not a"
                f" tensor; save the model's state_dict() and give that."
            )
    prefix = "module."  # left there by torch's DataParallel
    if all(name.startswith(prefix) for name in content):
        return {name.removeprefix(prefix): value for name, value in content.items()}
    return dict(content)
