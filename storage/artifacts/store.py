"""The artifact store: attempts write under names of their own, and a manifest publishes one.

`STORE/<stage>/<key>/<attempt>/...` holds the files of one attempt and
`STORE/<stage>/<key>/manifest.json`, written last and never overwritten, says which attempt is the
artifact. Nothing is ever renamed, so the same protocol serves local disks and object stores. A
process that dies leaves an attempt without a manifest, which `gc` sweeps; of two that race, the
second finds the manifest there, sweeps its own attempt and returns the winner's. Where files can
neither be linked nor be created conditionally, the manifest that stands is the winner's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from storage.access.credentials import refuse_secrets
from storage.access.roots import refuse_address, refuse_path
from storage.artifacts.fingerprints import Recipe
from storage.artifacts.manifests import FORMAT, parse_manifest
from storage.artifacts.software_versions import software_versions
from storage.artifacts.work_clock import began
from storage.errors.exceptions import ArtifactError, ConfigError
from storage.files.durable_files import (
    CHUNK,
    copy_file,
    link_into_place,
    make_folder,
    sync_file,
    sync_folder,
)
from storage.files.filesystems import (
    MissingFileError,
    display,
    is_local,
    list_folder,
    local_path,
    resolve,
    translated_errors,
)
from storage.files.hashing_writer import HashingWriter
from storage.files.json_files import is_text
from storage.files.user_files import MANIFEST as MANIFEST_LIMIT
from storage.files.user_files import read_uri

MANIFEST = "manifest.json"
REPORTS = "reports"
"""Folder beside the stages' with pages on builds, which are no artifacts."""
# Facts of a file that change with its content; each file system has some of them.
_STAMPS = ("mtime", "created", "ino", "ETag", "etag", "LastModified", "last_modified", "generation")
# In one process two threads must not both find no manifest; between processes the store decides.
_writing_once = threading.Lock()


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
        """The faults of the artifact's files, one sentence each.

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
            stamps = [str(info[stamp]) for stamp in _STAMPS if info.get(stamp) is not None]
            seen = (uri, info["size"], *stamps)
            if self.store.has_verified(seen) or not (deep or self._touched(info)):
                return None
            with filesystem.open(path, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                    return f"the content of {uri} has changed"
        if stamps:
            self.store.remember_verified(seen)
        return None

    def _touched(self, info: Mapping[str, Any]) -> bool:
        if not is_local(self.store.root):
            return False
        published = Path(self.store.location(self.ref), MANIFEST).stat().st_mtime
        return bool(info["mtime"] > published)

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


@dataclass
class Attempt:
    """The files of an artifact while they are written."""

    store: ArtifactStore
    ref: ArtifactRef
    name: str
    started: float
    files: list[dict[str, Any]] = field(default_factory=list)
    publishing: bool = False
    """From here on a manifest may name this attempt, so that its files must stay."""

    @property
    def location(self) -> str:
        return f"{self.store.location(self.ref)}/{self.name}"

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """Write one file of the artifact, sequentially; it is recorded when the block ends well.

        Raises:
            StorageError: if the file can't be written: no space, no permission.
        """
        uri = self._new(name)
        with translated_errors("write", uri):
            filesystem, path = resolve(uri)
            if is_local(uri):
                make_folder(Path(path).parent)
            raw = filesystem.open(path, "wb")
        with contextlib.closing(HashingWriter(raw, uri)) as writer:
            yield cast(IO[bytes], writer)
        self._record(name, writer.size, writer.hexdigest())

    def create_json(self, name: str, value: Any) -> None:
        with self.create(name) as file:
            file.write(json.dumps(value, indent=1, ensure_ascii=False).encode())

    def create_from_local_writer(self, name: str, write: Any) -> None:
        """For libraries that insist on a path (FAISS): `write(path)` on a local disk, in place if
        the store is on one, else copied in."""
        uri = self._new(name)
        if is_local(uri):
            self._write_in_place(name, Path(uri), write)
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            with translated_errors("write", str(path)):
                write(str(path))
            with path.open("rb") as source, self.create(name) as target:
                shutil.copyfileobj(source, target, CHUNK)

    def _write_in_place(self, name: str, path: Path, write: Any) -> None:
        with translated_errors("write", str(path)):
            make_folder(path.parent)
            write(str(path))
            with path.open("rb+") as file:
                sync_file(file)
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            self._record(name, path.stat().st_size, sha256)

    def adopt(self, name: str, artifact: Artifact, source: str) -> None:
        """Take a file of another artifact of the store: without copying its bytes where the disk
        allows it (a hard link; artifacts are immutable), else by copying on the store's own side.
        """
        entry = artifact._entry(source)
        uri = self._new(name)
        with translated_errors("write", uri):
            filesystem, path = resolve(uri)
            _, source_path = resolve(artifact.uri(source))
            if is_local(uri):
                make_folder(Path(path).parent)
                try:
                    os.link(source_path, path)
                except FileNotFoundError:
                    raise damaged(artifact.ref, [f"{artifact.uri(source)} is missing"]) from None
                except OSError:
                    copy_file(Path(source_path), Path(path))
            else:
                filesystem.copy(source_path, path)
        self._record(name, entry["size"], entry["sha256"])

    def _new(self, name: str) -> str:
        """The URI of a file to be: writing over an adopted one would write into its artifact."""
        assert all(entry["name"] != name for entry in self.files), f"{name} is written twice"
        return f"{self.location}/{name}"

    def _record(self, name: str, size: int, sha256: str) -> None:
        self.files.append({"name": name, "size": size, "sha256": sha256})


class ArtifactStore:
    """All artifacts under one root: a local folder or any fsspec URI.

    Args:
        root: path or URI; created when the first artifact is published.

    Raises:
        ConfigError: the name is empty, lies outside the roots, or carries a secret.
    """

    def __init__(self, root: str) -> None:
        self.root = _root(root)
        self._verified: set[tuple[Any, ...]] = set()
        self._known: dict[ArtifactRef, Artifact] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"ArtifactStore({self.root!r})"

    def location(self, ref: ArtifactRef) -> str:
        return f"{self.root}/{ref.stage}/{ref.key}"

    def find(self, ref: ArtifactRef) -> Artifact | None:
        """The published artifact, or None if there is none (an unfinished attempt is none).

        Raises:
            ArtifactError: if the manifest is damaged, or of a format that this version can't read.
        """
        uri = f"{self.location(ref)}/{MANIFEST}"
        try:
            text = read_uri(uri, MANIFEST_LIMIT)
        except MissingFileError:
            return None
        try:
            return Artifact(self, ref, parse_manifest(text, ref.stage, ref.key))
        except ValueError as error:
            raise damaged(ref, [f"{uri} {error}"]) from error

    def get(self, ref: ArtifactRef) -> Artifact:
        """The published artifact.

        Raises:
            ArtifactError: if it is not there.
        """
        with self._lock:
            known = self._known.get(ref)
        # A stage's inputs were found before; looking each of a thousand parts up again in an object
        # store would cost as many requests. The files are checked when they are opened.
        artifact = known or self.find(ref)
        if artifact is None:
            raise ArtifactError(
                f"Artifact {ref} is not in {self.root}: run the command that makes it again."
            )
        with self._lock:
            self._known[ref] = artifact
        return artifact

    def stages(self) -> list[str]:
        return [name for name in self._children(self.root) if name != REPORTS]

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
        names = {str(path).rstrip("/").rsplit("/", 1)[-1] for path in list_folder(uri)}
        # Names with a dot first are unfinished files, pins and leases.
        return sorted(name for name in names if not name.startswith("."))

    @contextlib.contextmanager
    def attempt(self, ref: ArtifactRef) -> Iterator[Attempt]:
        """A place to write an artifact's files; swept if the block raises or does not publish."""
        attempt = Attempt(self, ref, f"attempt-{uuid.uuid4().hex[:12]}", began())
        try:
            yield attempt
        except BaseException:
            if not (attempt.publishing and self._may_stand(attempt)):
                self.sweep(ref, attempt.name)
            raise
        if not attempt.publishing:
            self.sweep(ref, attempt.name)

    def _may_stand(self, attempt: Attempt) -> bool:
        """Whether a manifest names the attempt, or can't be read and so might."""
        try:
            artifact = self.find(attempt.ref)
        except Exception:
            return True  # gc looks again
        return artifact is not None and artifact.manifest["attempt"] == attempt.name

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
            notes: further facts that are not part of the content.

        Returns:
            The artifact: this attempt's, or that of the attempt that was published first.
        """
        manifest = {
            "format": FORMAT,
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
        if is_local(self.root):
            for folder in {Path(attempt.location, entry["name"]).parent for entry in attempt.files}:
                sync_folder(folder)
        attempt.publishing = True
        if self._write_once(f"{self.location(attempt.ref)}/{MANIFEST}", text):
            return Artifact(self, attempt.ref, manifest)
        self.sweep(attempt.ref, attempt.name)
        return self.get(attempt.ref)

    def _write_once(self, uri: str, text: bytes) -> bool:
        """Create an object if it does not exist; False if another writer was faster."""
        with translated_errors("write", uri):
            filesystem, path = resolve(uri)
            if is_local(uri):
                return link_into_place(Path(path), text)
            with _writing_once:
                if filesystem.exists(path):
                    return False
                try:
                    filesystem.pipe_file(path, text, mode="create")
                except FileExistsError:
                    return False
                # A store without conditional writes may have taken two: the one that stands wins.
                return cast(bytes, filesystem.cat_file(path)) == text

    def sweep(self, ref: ArtifactRef, attempt: str) -> None:
        """Remove an attempt that will not become the artifact; never fails."""
        with contextlib.suppress(Exception):
            filesystem, path = resolve(f"{self.location(ref)}/{attempt}")
            filesystem.rm(path, recursive=True)
        if is_local(self.root):
            with contextlib.suppress(OSError):
                Path(self.location(ref)).rmdir()

    def delete(self, ref: ArtifactRef) -> None:
        """Remove an artifact, the manifest first, so that no reader sees half of it."""
        with self._lock:
            self._known.pop(ref, None)
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


def _root(root: str) -> str:
    """A store's root without a slash at its end, a local one as an absolute path."""
    if not root.strip():
        raise ConfigError("The store has no name: give a folder or an address.")
    if is_local(root):
        refuse_path(local_path(root), written=True)
        path = str(Path(local_path(root)).absolute())
        if not is_text(path):
            raise ConfigError(
                f"The store {display(path)} has a name that is no UTF-8, as manifests and Prefect"
                " need it: give another folder, or a link to it."
            )
        return path
    refuse_secrets(root)
    refuse_address(root)
    stripped = root.rstrip("/")
    return f"{stripped}//" if stripped.endswith(":") else stripped  # all of `memory://`
