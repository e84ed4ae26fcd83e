"""Leases: which builds use a store's artifacts now, and which garbage collections remove some.

A build can't tell beforehand which artifacts it will find and use, so nothing unreferenced may go
while one runs. Each announces itself with a small file under `STORE/.running/` that it rewrites
every minute and removes at its end; a collector does the same under `STORE/.collecting/`. Both
announce themselves first and then look for the other: the second of the two sees the first, on any
store that lists what has been written (local disks, S3; network disks after their attribute cache
has expired). A build waits until a collector has ended; a collector leaves alone what a build may
be using.

A file that has not been rewritten for a quarter of an hour belongs to a process that has died. Ages
are measured by the store's own clock, the time stamp of a file just written, so that a machine's
wrong clock does no harm.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.artifacts.inventory import modified
from storage.artifacts.store import ArtifactStore
from storage.errors.exceptions import StorageError
from storage.files.filesystems import is_local, list_folder, resolve, translated_errors
from storage.files.json_files import parse_json

log = logging.getLogger(__name__)

RUNNING = ".running"
COLLECTING = ".collecting"

HEARTBEAT_SECONDS = 60.0
DEAD_AFTER_SECONDS = 900.0


@dataclass(frozen=True)
class Lease:
    """The announcement of a running process.

    Attributes:
        name: of its file, without `.json`.
        what: name of the flow or command.
        title: for people, what it works on.
        host, pid: where it runs.
        started: when, by its own clock, in ISO 8601; empty where the file can't be read.
        age: seconds since its last heartbeat.
    """

    name: str
    what: str
    title: str
    host: str
    pid: int
    started: str
    age: float

    @property
    def alive(self) -> bool:
        return self.age < DEAD_AFTER_SECONDS


@contextlib.contextmanager
def using(
    store: ArtifactStore, what: str, title: str, *, heartbeat_seconds: float = HEARTBEAT_SECONDS
) -> Iterator[None]:
    """Announce a build, training or evaluation for as long as the block runs.

    Waits at the start while a collector removes artifacts. In a store that can't be written the run
    goes on without announcement: cached artifacts can still be read.

    Args:
        store: the block may use its artifacts.
        what: name of the flow.
        title: what it works on, for `zutis status`; without secrets.
        heartbeat_seconds: between two heartbeats.
    """
    beat = _Heartbeat(store, RUNNING, what, title, heartbeat_seconds)
    try:
        now = beat.write()
    except StorageError as error:
        log.warning("This run is not announced in the store: %s", error)
        yield
        return
    with beat:
        now = _wait_for_collectors(beat, now)
        _forget_predecessors(beat, now)
        yield


@contextlib.contextmanager
def collecting(
    store: ArtifactStore, *, heartbeat_seconds: float = HEARTBEAT_SECONDS
) -> Iterator[list[Lease]]:
    """Announce a collector for as long as the block runs; yields the builds that are running.

    Where there are any, the block must not remove what they may be using.

    Raises:
        StorageError: the store can't be written, and so not collected either.
    """
    beat = _Heartbeat(store, COLLECTING, "gc", "", heartbeat_seconds)
    now = beat.write()
    with beat:
        yield [lease for lease in leases(store, RUNNING, now) if lease.alive]


def leases(store: ArtifactStore, folder: str = RUNNING, now: float | None = None) -> list[Lease]:
    """All announced processes, the dead included, by age.

    Args:
        store: where to look.
        folder: `RUNNING` or `COLLECTING`.
        now: seconds since the epoch, by the store's clock; else by this machine's.

    Raises:
        StorageError: the store can't be read.
    """
    place = f"{store.root}/{folder}"
    entries = list_folder(place, detail=True)
    now = time.time() if now is None else now
    with translated_errors("read", place):
        filesystem, _ = resolve(place)
        found = [_read(filesystem, entry, now) for entry in entries if _is_lease(entry)]
    return sorted((lease for lease in found if lease is not None), key=lambda lease: lease.age)


def forget(store: ArtifactStore, lease: Lease, folder: str = RUNNING) -> None:
    """Remove the file of a process that has died; never fails."""
    with contextlib.suppress(Exception):
        filesystem, path = resolve(f"{store.root}/{folder}/{lease.name}.json")
        filesystem.rm_file(path)


def _is_lease(entry: dict[str, Any]) -> bool:
    return str(entry["name"]).endswith(".json") and entry["type"] == "file"


def _read(filesystem: Any, entry: dict[str, Any], now: float) -> Lease | None:
    """A lease from its file; None if it has ended since it was listed."""
    name = str(entry["name"]).rsplit("/", 1)[-1].removesuffix(".json")
    try:
        content = filesystem.cat_file(entry["name"])
    except FileNotFoundError:
        return None
    try:
        fields = parse_json(content)
        text = {key: str(fields[key]) for key in ("what", "title", "host", "started")}
        pid = int(fields["pid"])
    except (ValueError, KeyError, TypeError):  # not one of ours, or damaged: it counts all the same
        text, pid = dict.fromkeys(("what", "title", "host", "started"), ""), 0
    # A stamp from the future is that of a process that is alive.
    return Lease(name=name, pid=pid, age=max(0.0, now - modified(entry)), **text)


@dataclass
class _Heartbeat:
    """The file that shows that this process is alive, and the thread that rewrites it."""

    store: ArtifactStore
    folder: str
    what: str
    title: str
    seconds: float
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    _over: threading.Event = field(default_factory=threading.Event)
    _writing: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None

    @property
    def _uri(self) -> str:
        return f"{self.store.root}/{self.folder}/{self.name}.json"

    def write(self) -> float:
        """Write the file; returns the store's time, in seconds since the epoch.

        Raises:
            StorageError: the store refuses.
        """
        text = json.dumps({
            "what": self.what, "title": self.title, "host": socket.gethostname(),
            "pid": os.getpid(), "started": self.started,
        }).encode()  # fmt: skip
        with self._writing, translated_errors("write", self._uri):
            filesystem, path = resolve(self._uri)
            if is_local(self._uri):
                _replace(Path(path), text)
            else:
                filesystem.pipe_file(path, text)
                filesystem.invalidate_cache(path)
            return modified(filesystem.info(path))

    def __enter__(self) -> _Heartbeat:
        self._thread = threading.Thread(target=self._go_on, name=f"lease-{self.name}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()
        with contextlib.suppress(Exception):
            filesystem, path = resolve(self._uri)
            filesystem.rm_file(path)
        if is_local(self._uri):
            with contextlib.suppress(OSError):
                Path(self._uri).parent.rmdir()

    def _go_on(self) -> None:
        while not self._over.wait(self.seconds):
            with contextlib.suppress(StorageError):  # the next one may get through
                self.write()


def _replace(path: Path, text: bytes) -> None:
    """Another process never reads half of it, and may remove the empty folder at any moment."""
    temporary = path.with_suffix(".tmp")
    for attempt in range(3):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(text)
            break
        except FileNotFoundError:
            if attempt == 2:
                raise
    temporary.replace(path)


def _wait_for_collectors(beat: _Heartbeat, now: float) -> float:
    """Until none is left; takes and returns the store's time."""
    warned = False
    while any(lease.alive for lease in leases(beat.store, COLLECTING, now)):
        if not warned:
            log.warning("Waiting until `zutis artifacts gc` has ended on %s.", beat.store.root)
            warned = True
        time.sleep(min(2.0, beat.seconds))
        now = beat.write()
    return now


def _forget_predecessors(beat: _Heartbeat, now: float) -> None:
    """Remove the leases of dead runs of the same work, which this run repeats."""
    for lease in leases(beat.store, RUNNING, now):
        if not lease.alive and (lease.what, lease.title) == (beat.what, beat.title):
            forget(beat.store, lease)
