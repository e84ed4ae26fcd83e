"""Content-addressed artifacts: written under a name of their own, made real by a manifest.

`STORE/<stage>/<key>/<attempt>/...` holds the files of one attempt and
`STORE/<stage>/<key>/manifest.json`, written last and never overwritten, says which attempt is the
artifact. Nothing is ever renamed, so the same protocol serves local disks and object stores. A
process that dies leaves an attempt without a manifest, which `gc` sweeps; of two that race, the
second finds the manifest there, sweeps its own attempt and returns the winner's.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import IO, Any, cast

from storage.errors import ArtifactError, StorageError
from storage.filesystems import is_local, resolve, translated_errors
from storage.fingerprints import Recipe

MANIFEST = "manifest.json"
_FORMAT = 1
_CHUNK = 1 << 22
_PACKAGES = ("zutis", "numpy", "torch", "open_clip_torch", "timm", "faiss-gpu", "faiss-cpu",
             "pillow", "pyarrow", "scipy", "webdataset", "prefect")  # fmt: skip


@cache
def software_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide results, read without importing them."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


@dataclass(frozen=True)
class ArtifactRef:
    """A name for an artifact that fits into a message: stage and key, nothing else."""

    stage: str
    key: str

    def __str__(self) -> str:
        return f"{self.stage}/{self.key}"


@dataclass(frozen=True)
class Artifact:
    """A published artifact. Its files are opened through it, never by path, so that a file that
    is missing, short or changed is noticed when it is opened."""

    store: ArtifactStore
    ref: ArtifactRef
    manifest: Mapping[str, Any]

    @property
    def key(self) -> str:
        return self.ref.key

    @property
    def counts(self) -> dict[str, Any]:
        return dict(self.manifest["counts"])

    @property
    def notes(self) -> dict[str, Any]:
        return dict(self.manifest["notes"])

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """Size in bytes and sha256 of every file, by name."""
        return {entry["name"]: entry for entry in self.manifest["files"]}

    @property
    def location(self) -> str:
        """Path or URI of the folder with the artifact's files."""
        return f"{self.store.location(self.ref)}/{self.manifest['attempt']}"

    def uri(self, name: str) -> str:
        """Path or URI of one file; for other programs. Ours use `open`, which verifies."""
        self._entry(name)
        return f"{self.location}/{name}"

    def open(self, name: str) -> IO[bytes]:
        """Open one file for reading, after checking it against the manifest.

        Raises:
            ArtifactError: if the file is missing, of another size or of other content.
        """
        problem = self.problem_with(name, deep=True)
        if problem:
            raise damaged(self.ref, [problem])
        with translated_errors("read", self.uri(name)):
            filesystem, path = resolve(self.uri(name))
            return cast(IO[bytes], filesystem.open(path, "rb"))

    def local_path(self, name: str) -> Path | None:
        """Where a checked file is on a local disk, for memory mapping; None on object stores."""
        if not is_local(self.store.root):
            return None
        self.open(name).close()
        return Path(self.uri(name))

    def read_json(self, name: str) -> Any:
        with self.open(name) as file:
            return json.load(file)

    def problems(self, *, deep: bool = False) -> list[str]:
        """What is wrong with the artifact's files, one sentence each.

        The quick look compares existence and size, and reads only local files that were touched
        after the manifest was written; `deep` reads and hashes everything.
        """
        found = (self.problem_with(name, deep=deep) for name in self.files)
        return [problem for problem in found if problem]

    def problem_with(self, name: str, *, deep: bool) -> str | None:
        entry = self._entry(name)
        uri = f"{self.location}/{name}"
        filesystem, path = resolve(uri)
        with translated_errors("read", uri):
            try:
                info = filesystem.info(path)
            except FileNotFoundError:
                return f"{uri} is missing"
            if info["size"] != entry["size"]:
                return f"{uri} has {info['size']} bytes instead of {entry['size']}"
            seen = (uri, info["size"], info.get("mtime"), info.get("ETag"))
            if self.store.has_verified(seen) or not (deep or self._touched(info)):
                return None
            with filesystem.open(path, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                    return f"the content of {uri} has changed"
        self.store.remember_verified(seen)
        return None

    def _touched(self, info: Mapping[str, Any]) -> bool:
        return "mtime" in info and info["mtime"] > self._manifest_mtime

    @property
    def _manifest_mtime(self) -> float:
        if not is_local(self.store.root):
            return float("inf")
        return Path(self.store.location(self.ref), MANIFEST).stat().st_mtime

    def _entry(self, name: str) -> dict[str, Any]:
        try:
            return self.files[name]
        except KeyError:
            raise ArtifactError(f"Artifact {self.ref} has no file {name!r}.") from None


def damaged(ref: ArtifactRef, problems: list[str]) -> ArtifactError:
    """The error for an artifact with damaged files."""
    return ArtifactError(
        f"Artifact {ref} is damaged: {'; '.join(problems)}. Run the same command with --repair "
        "to rebuild it."
    )


class HashingWriter(io.RawIOBase):
    """A sequential binary writer that counts and hashes what passes through."""

    def __init__(self, raw: IO[bytes]) -> None:
        super().__init__()
        self._raw = raw
        self._sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._raw.write(view)
        self._sha256.update(view)
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        return self.size

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()

    def close(self) -> None:
        if not self.closed:
            self._sync()
            self._raw.close()
            super().close()

    def _sync(self) -> None:
        self._raw.flush()
        # Object stores have no descriptor; their close makes the object durable.
        with contextlib.suppress(AttributeError, OSError):
            os.fsync(self._raw.fileno())


@dataclass
class Attempt:
    """The files of an artifact while they are written."""

    store: ArtifactStore
    ref: ArtifactRef
    name: str
    started: float
    files: list[dict[str, Any]] = field(default_factory=list)

    @property
    def location(self) -> str:
        return f"{self.store.location(self.ref)}/{self.name}"

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """Write one file of the artifact, sequentially; it is recorded when the block ends well."""
        uri = f"{self.location}/{name}"
        with translated_errors("write", uri):
            filesystem, path = resolve(uri)
            if is_local(uri):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(HashingWriter(filesystem.open(path, "wb"))) as writer:
                yield cast(IO[bytes], writer)
        self.files.append({"name": name, "size": writer.size, "sha256": writer.hexdigest()})

    def create_json(self, name: str, value: Any) -> None:
        with self.create(name) as file:
            file.write(json.dumps(value, indent=1, ensure_ascii=False).encode())

    def create_from_local_writer(self, name: str, write: Any) -> None:
        """For libraries that insist on a path (FAISS): `write(path)`, then copied in."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            with translated_errors("write", str(path)):
                write(str(path))
            with path.open("rb") as source, self.create(name) as target:
                while chunk := source.read(_CHUNK):
                    target.write(chunk)

    def adopt(self, name: str, artifact: Artifact, source: str) -> None:
        """Take a file of another artifact without copying its bytes where the disk allows it
        (a hard link: artifacts are immutable), else by copying on the store's own side."""
        entry = artifact._entry(source)
        uri = f"{self.location}/{name}"
        with translated_errors("write", uri):
            filesystem, path = resolve(uri)
            _, source_path = resolve(artifact.uri(source))
            if is_local(uri):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(source_path, path)
                except OSError:
                    filesystem.copy(source_path, path)
            else:
                filesystem.copy(source_path, path)
        self.files.append({"name": name, "size": entry["size"], "sha256": entry["sha256"]})


class ArtifactStore:
    """All artifacts under one root: a local folder or any fsspec URI.

    Args:
        root: path or URI; created when the first artifact is published.
    """

    def __init__(self, root: str) -> None:
        self.root = str(Path(root).absolute()) if is_local(root) else root.rstrip("/")
        self._verified: set[tuple[Any, ...]] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"ArtifactStore({self.root!r})"

    def location(self, ref: ArtifactRef) -> str:
        return f"{self.root}/{ref.stage}/{ref.key}"

    def find(self, ref: ArtifactRef) -> Artifact | None:
        """The published artifact, or None if there is none (an unfinished attempt is none)."""
        uri = f"{self.location(ref)}/{MANIFEST}"
        with translated_errors("read", uri):
            filesystem, path = resolve(uri)
            try:
                text = filesystem.cat_file(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
        try:
            manifest = json.loads(text)
            return Artifact(self, ref, manifest) if manifest["format"] == _FORMAT else None
        except (ValueError, KeyError, TypeError):
            raise damaged(ref, [f"{uri} is not a manifest"]) from None

    def get(self, ref: ArtifactRef) -> Artifact:
        """The published artifact.

        Raises:
            ArtifactError: if it is not there.
        """
        artifact = self.find(ref)
        if artifact is None:
            raise ArtifactError(
                f"Artifact {ref} is not in {self.root}: run the command that makes it again."
            )
        return artifact

    def stages(self) -> list[str]:
        return self._children(self.root)

    def published(self, stage: str, prefix: str = "") -> list[Artifact]:
        """Published artifacts of a stage whose keys begin with `prefix`, by key."""
        keys = (key for key in self._children(f"{self.root}/{stage}") if key.startswith(prefix))
        found = (self.find(ArtifactRef(stage, key)) for key in keys)
        return [artifact for artifact in found if artifact is not None]

    def keys(self, stage: str) -> list[str]:
        """Every key of a stage, published or only attempted."""
        return self._children(f"{self.root}/{stage}")

    def attempts(self, ref: ArtifactRef) -> list[str]:
        """Names of the attempts under a key, the published one included."""
        return [name for name in self._children(self.location(ref)) if name != MANIFEST]

    def _children(self, uri: str) -> list[str]:
        with translated_errors("list", uri):
            filesystem, path = resolve(uri)
            try:
                entries = filesystem.ls(path, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        names = {str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries}
        return sorted(name for name in names if not name.startswith("."))

    @contextlib.contextmanager
    def attempt(self, ref: ArtifactRef) -> Iterator[Attempt]:
        """A place to write an artifact's files; swept if the block raises or does not publish."""
        attempt = Attempt(self, ref, f"attempt-{uuid.uuid4().hex[:12]}", time.monotonic())
        try:
            yield attempt
        except BaseException:
            self.sweep(ref, attempt.name)
            raise

    def publish(
        self,
        attempt: Attempt,
        recipe: Recipe,
        *,
        inputs: Mapping[str, Any] | None = None,
        counts: Mapping[str, Any] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """Write the manifest, which makes the attempt the artifact.

        Args:
            recipe: what the key was made from; recorded.
            inputs: further artifacts that this part read, by name; recorded.
            counts: results in numbers, decided by the inputs alone.
            notes: anything worth knowing that is not part of the content.

        Returns:
            The artifact: this attempt's, or that of whoever published first.
        """
        manifest = {
            "format": _FORMAT,
            "stage": attempt.ref.stage,
            "version": recipe.version,
            "key": attempt.ref.key,
            "attempt": attempt.name,
            "config": dict(recipe.config),
            "weights": dict(recipe.weights),
            "inputs": {**recipe.inputs, **(inputs or {})},
            "files": sorted(attempt.files, key=lambda entry: entry["name"]),
            "counts": dict(counts or {}),
            "notes": dict(notes or {}),
            "software": software_versions(),
            "seconds": round(time.monotonic() - attempt.started, 3),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False).encode()
        if self._write_once(f"{self.location(attempt.ref)}/{MANIFEST}", text):
            return Artifact(self, attempt.ref, manifest)
        self.sweep(attempt.ref, attempt.name)
        return self.get(attempt.ref)

    def _write_once(self, uri: str, text: bytes) -> bool:
        """Create an object if it does not exist; False if somebody was faster."""
        with translated_errors("write", uri):
            filesystem, path = resolve(uri)
            if is_local(uri):
                return _link_into_place(Path(path), text)
            if filesystem.exists(path):
                return False
            try:
                filesystem.pipe_file(path, text, mode="create")
            except FileExistsError:
                return False
            # A store without conditional writes may have taken two: the object that stands wins.
            return cast(bytes, filesystem.cat_file(path)) == text

    def sweep(self, ref: ArtifactRef, attempt: str) -> None:
        """Remove an attempt that will not become the artifact; never fails."""
        filesystem, path = resolve(f"{self.location(ref)}/{attempt}")
        with contextlib.suppress(Exception):
            filesystem.rm(path, recursive=True)
        if is_local(self.root):
            with contextlib.suppress(OSError):
                Path(self.location(ref)).rmdir()

    def delete(self, ref: ArtifactRef) -> None:
        """Remove an artifact, the manifest first so that nobody meets half of it."""
        filesystem, path = resolve(self.location(ref))
        with translated_errors("delete", self.location(ref)):
            with contextlib.suppress(FileNotFoundError):
                filesystem.rm_file(f"{path}/{MANIFEST}")
            with contextlib.suppress(FileNotFoundError):
                filesystem.rm(path, recursive=True)

    def has_verified(self, seen: tuple[Any, ...]) -> bool:
        with self._lock:
            return seen in self._verified

    def remember_verified(self, seen: tuple[Any, ...]) -> None:
        with self._lock:
            self._verified.add(seen)


def _link_into_place(path: Path, text: bytes) -> bool:
    """Atomic and exclusive creation on a local disk: a full temporary file, then a hard link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:12]}")
    try:
        with temporary.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links: creation is exclusive, not atomic
            try:
                with path.open("xb") as file:
                    file.write(text)
            except FileExistsError:
                return False
        _sync_folder(path.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


__all__ = [
    "MANIFEST",
    "Artifact",
    "ArtifactError",
    "ArtifactRef",
    "ArtifactStore",
    "Attempt",
    "HashingWriter",
    "StorageError",
    "damaged",
    "software_versions",
]
