"""The folder of published weights: files appear whole, and their digests are remembered.

The folder is `platformdirs`' cache folder for zutis, or `ZUTIS_WEIGHTS`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import platformdirs

from storage.access.roots import refuse_path
from storage.errors.exceptions import StorageError, WeightsError
from storage.files.json_files import parse_json
from storage.files.regular_files import UnsuitableFileError
from storage.files.user_files import (
    RECORD,
    WEIGHTS,
    open_limited,
    read_path,
    user_path,
)


def weights_folder() -> Path:
    """The folder of published weights: `ZUTIS_WEIGHTS`, or a folder in the user's cache."""
    override = os.environ.get("ZUTIS_WEIGHTS")
    if override:
        return user_path(override)
    return Path(platformdirs.user_cache_dir("zutis")) / "weights"


def sha256_of(path: Path) -> str:
    """The sha256, in hex, of a file's bytes.

    Raises:
        WeightsError: the file is missing or can't be read.
    """
    try:
        with open_limited(path, WEIGHTS) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise WeightsError(f"There is no weights file {path}; check the path.") from error
    except UnsuitableFileError as error:
        raise WeightsError(f"The weights file {path} can't be read: {error.strerror}.") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no file can have this name"
        raise WeightsError(
            f"The weights file {path} can't be read ({why}); check the path and its permissions."
        ) from error


def digest_of(path: Path) -> str:
    """The file's sha256, remembered by path, size and time of change.

    Hashing a gigabyte takes seconds, which a fully cached run should not spend. To check bytes,
    use `sha256_of`, which reads them.

    Raises:
        OutsideRootsError: it lies outside the roots, also where it is remembered.
        WeightsError: as `sha256_of`.
    """
    refuse_path(path)
    try:
        status = path.stat()
    except (OSError, ValueError):
        return sha256_of(path)  # raises, with the reason
    location = str(path.absolute())
    name = hashlib.sha256(location.encode(errors="surrogateescape")).hexdigest()
    memory = weights_folder() / "digests" / f"{name}.json"
    key = [location, status.st_size, status.st_mtime_ns]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = parse_json(read_path(memory, RECORD))
        if known["file"] == key:
            return str(known["sha256"])
    digest = sha256_of(path)
    # Where the folder can't be written, each run hashes again: slower, not wrong.
    with contextlib.suppress(StorageError):
        write_json(memory, {"file": key, "sha256": digest})
    return digest


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small file of JSON as `publishing` does."""
    with publishing(path) as file:
        file.write(json.dumps(content, indent=1, sort_keys=True).encode())


@contextlib.contextmanager
def publishing(path: Path) -> Iterator[IO[bytes]]:
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
