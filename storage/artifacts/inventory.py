"""Inventory of a store from one listing: sizes and ages of artifacts, manifests unopened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from storage.artifacts.store import MANIFEST, REPORTS, Artifact, ArtifactRef, ArtifactStore
from storage.files.filesystems import resolve, translated_errors

_READERS = 16


@dataclass
class Stored:
    """Files and folders under one name.

    Attributes:
        newest: last time of writing of the youngest of them, in seconds since the epoch by the
            store's clock; infinity where the store doesn't record it.
        sizes: bytes of every file by its inode, so that a file with two names counts once, or
            else by its path.
    """

    newest: float = 0.0
    sizes: dict[Any, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(self.sizes.values())


@dataclass
class Holding:
    """The content of one key of a stage.

    Attributes:
        ref: stage and key.
        published: time of its manifest, as `Stored.newest`; None where there is none.
        manifest: the manifest's own bytes.
        children: the entries beside the manifest, by name: attempts, and folders with a dot.
    """

    ref: ArtifactRef
    published: float | None = None
    manifest: Stored = field(default_factory=Stored)
    children: dict[str, Stored] = field(default_factory=dict)

    @property
    def stored(self) -> list[Stored]:
        return [self.manifest, *self.children.values()]


def take_inventory(store: ArtifactStore) -> list[Holding]:
    """Everything in the store, by stage and key.

    Entries that appear or go while the store is listed may be in the result or not.

    Raises:
        StorageError: the store can't be listed.
    """
    holdings: dict[ArtifactRef, Holding] = {}
    for parts, entry in _entries(store):
        ref = ArtifactRef(parts[0], parts[1])
        holding = holdings.setdefault(ref, Holding(ref))
        if parts[2:] == [MANIFEST]:
            holding.published = modified(entry)
            _add(holding.manifest, entry)
        elif len(parts) > 2:
            _add(holding.children.setdefault(parts[2], Stored()), entry)
    return [holdings[ref] for ref in sorted(holdings, key=lambda ref: (ref.stage, ref.key))]


def total_size(stored: Iterable[Stored]) -> int:
    """Bytes of all files, each once however many names it has."""
    sizes: dict[Any, int] = {}
    for item in stored:
        sizes.update(item.sizes)
    return sum(sizes.values())


def read_manifests(store: ArtifactStore, refs: Sequence[ArtifactRef]) -> list[Artifact]:
    """The artifacts that are published among `refs`, in their order; many are read at a time.

    Raises:
        ArtifactError: a manifest is damaged.
        StorageError: the store can't be read.
    """
    if not refs:
        return []
    with ThreadPoolExecutor(min(_READERS, len(refs))) as pool:
        return [artifact for artifact in pool.map(store.find, refs) if artifact is not None]


def modified(entry: dict[str, Any]) -> float:
    """When a listed file was last written: seconds since the epoch, infinity if unknown."""
    for name in ("mtime", "LastModified", "last_modified", "created"):
        if isinstance(entry.get(name), datetime):
            return float(entry[name].timestamp())
        if entry.get(name) is not None:
            return float(entry[name])
    return float("inf")


def _entries(store: ArtifactStore) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Path below the store, split, and description, of all files and folders."""
    with translated_errors("list", store.root):
        filesystem, root = resolve(store.root)
        filesystem.invalidate_cache()  # what other machines published since counts too
        found = filesystem.find(root, withdirs=True, detail=True)
    above = len(root.rstrip("/")) + 1
    for path, entry in found.items():
        parts = path[above:].split("/")
        # What begins with a dot is no stage: pins, and who is working on the store.
        hidden = any(part.startswith(".") for part in parts[:2])
        if len(parts) > 1 and not hidden and parts[0] != REPORTS:
            yield parts, entry


def _add(stored: Stored, entry: dict[str, Any]) -> None:
    is_file = entry["type"] == "file"
    # Object stores have no folders: what they list as such has no stamp.
    if is_file or entry.get("mtime") is not None:
        stored.newest = max(stored.newest, modified(entry))
    if is_file:
        stored.sizes[entry.get("ino") or entry["name"]] = entry["size"]
