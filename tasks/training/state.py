"""Checkpoints of an unfinished training run: everything needed to resume it exactly.

They are in `STORE/train/KEY/.state/`, beside the attempts of the run's artifact. The key covers all
settings that determine the weights, so that a run never resumes from the state of another. Names
that begin with a dot are no attempts: `gc` ignores them, and they are deleted with the artifact.

A state appears under its name complete or not at all: it is renamed into place on a local disk, and
written as one object elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ConfigError
from storage.files.filesystems import (
    MissingFileError,
    is_local,
    join_uri,
    local_path,
    open_binary,
    resolve,
    translated_errors,
)

FOLDER = ".state"
_FORMAT = 1
_NAME = re.compile(r"step-(\d{8,})\.pt")
_UNFINISHED = ".part"
# Younger files may be in use by another process with the same training.
_ABANDONED_AFTER = 3600.0
# Raised by torch.load for a truncated or otherwise damaged file.
_DAMAGED = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError)

log = logging.getLogger(__name__)


class TrainingStates:
    """The states of one run; in a distributed training only one process writes them.

    Args:
        store: of the run's artifact.
        ref: of the run's artifact.
        keep: number of latest states to keep, at least 1.

    Raises:
        ConfigError: `keep` is below 1.
    """

    def __init__(self, store: ArtifactStore, ref: ArtifactRef, keep: int = 2) -> None:
        if keep < 1:
            raise ConfigError(f"keep_checkpoints is {keep}: choose 1 or more.")
        self.folder = f"{store.location(ref)}/{FOLDER}"
        self._key = str(ref)
        self._keep = keep

    def steps(self) -> list[int]:
        """The iterations after which there is a state, ascending."""
        found = (_NAME.fullmatch(name) for name in self._names())
        return sorted(int(match[1]) for match in found if match)

    def save(self, step: int, content: Mapping[str, Any]) -> None:
        """Save the state after `step` iterations, and delete the oldest ones.

        Args:
            step: at least 0.
            content: tensors, numbers, strings and None in mappings and lists.

        Raises:
            StorageError: it can't be written; earlier states are unharmed.
        """
        import torch

        state = {"format": _FORMAT, "key": self._key, "step": step, **content}
        uri = self._uri(step)
        with translated_errors("write", uri):
            if is_local(uri):
                _write_local(Path(local_path(uri)), state)
            else:
                buffer = io.BytesIO()
                torch.save(state, buffer)
                filesystem, path = resolve(uri)
                filesystem.pipe_file(path, buffer.getvalue())
        self._let_go_of_all_but(self.steps()[-self._keep :])

    def latest(self) -> dict[str, Any] | None:
        """The latest undamaged state, with `step`; None if there is none.

        Damaged states are skipped, with a warning.
        """
        for step in reversed(self.steps()):
            state = self._load(step)
            if state is not None:
                return state
        return None

    def discard(self) -> None:
        """Remove all states, after the artifact is published; never fails."""
        with contextlib.suppress(Exception):
            filesystem, path = resolve(self.folder)
            filesystem.rm(path, recursive=True)

    def _load(self, step: int) -> dict[str, Any] | None:
        import torch

        uri = self._uri(step)
        try:
            with translated_errors("read", uri), open_binary(uri) as file:
                state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            whole = (state["format"], state["key"], state["step"]) == (_FORMAT, self._key, step)
        except MissingFileError:
            return None
        except _DAMAGED as error:
            log.warning("%s is damaged (%s) and skipped", uri, type(error).__name__)
            return None
        if not whole:
            log.warning("%s is not a state of %s and skipped", uri, self._key)
            return None
        return state

    def _uri(self, step: int) -> str:
        return join_uri(self.folder, f"step-{step:08d}.pt")

    def _names(self) -> list[str]:
        with translated_errors("list", self.folder):
            filesystem, path = resolve(self.folder)
            filesystem.invalidate_cache(path)
            try:
                entries = filesystem.ls(path, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return [str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries]

    def _let_go_of_all_but(self, kept: list[int]) -> None:
        """Delete older states, and partial files of killed processes."""
        for step in set(self.steps()) - set(kept):
            with contextlib.suppress(Exception):
                filesystem, path = resolve(self._uri(step))
                filesystem.rm_file(path)
        if is_local(self.folder):
            for part in Path(local_path(self.folder)).glob(f"*{_UNFINISHED}"):
                with contextlib.suppress(OSError):
                    if time.time() - part.stat().st_mtime > _ABANDONED_AFTER:
                        part.unlink()


def _write_local(path: Path, state: dict[str, Any]) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}{_UNFINISHED}")
    try:
        with temporary.open("wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                # torch's error about the archive hides the disk's.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
