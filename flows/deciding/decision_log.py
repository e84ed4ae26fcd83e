"""The file of decisions while people add to it: here, and in other processes at the same time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from storage.decisions.decision import Decision, decision_of, now
from storage.decisions.decision_file import append_decisions
from storage.decisions.outcomes import Outcome, outcomes_of
from storage.errors.exceptions import CorpusError
from storage.files.filesystems import display, translated_errors
from storage.files.regular_files import open_regular

_STEP: Final = timedelta(microseconds=1)


class DecisionLog:
    """The decisions of a file, by image; what is appended to it later is read, too. Thread-safe.

    Args:
        path: of the file, which may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._by_image: dict[str, list[Decision]] = {}
        self._lock = threading.RLock()
        self._seen: tuple[int, ...] = ()
        self._read_to = 0
        self._lines = 0

    def refresh(self) -> set[str]:
        """Read what the file has got since; returns the image_ids of these decisions.

        Raises:
            CorpusError: a line is no decision; the sentence has its number.
            StorageError: the file can't be read.
        """
        with self._lock:
            stamp = self._stamp()
            if stamp == self._seen:
                return set()
            changed: set[str] = set()
            if self._seen[:2] != stamp[:2] or self._read_to > (stamp[2] if stamp else 0):
                changed = set(self._by_image)  # another file, or one that was cut
                self._by_image, self._read_to, self._lines = {}, 0, 0
            changed |= self._read_on() if stamp else set()
            self._seen = stamp
            return changed

    def _stamp(self) -> tuple[int, ...]:
        """What tells whether the file is another one, or has changed; empty where there is none."""
        with translated_errors("read", str(self.path)):
            try:
                found = self.path.stat()
            except FileNotFoundError:
                return ()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _read_on(self) -> set[str]:
        with translated_errors("read", str(self.path)), open_regular(self.path) as file:
            file.seek(self._read_to)
            data = file.read()
        *whole, rest = data.split(b"\n")
        found = [
            self._decision(line, number)
            for number, line in enumerate(whole, start=self._lines + 1)
            if line.strip()
        ]
        self._read_to += len(data) - len(rest)
        self._lines += len(whole)
        for decision in found + _unended(rest):
            self._by_image.setdefault(decision.image_id, []).append(decision)
        return {decision.image_id for decision in found + _unended(rest)}

    def _decision(self, line: bytes, number: int) -> Decision:
        try:
            return decision_of(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except ValueError as error:
            why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            raise CorpusError(
                f"Line {number} of {display(str(self.path))} is no decision ({why}); correct it or "
                "take it out."
            ) from error

    @property
    def image_ids(self) -> set[str]:
        """The images that decisions name."""
        with self._lock:
            return set(self._by_image)

    def has(self, image_id: str) -> bool:
        """Whether there is any decision about an image."""
        return image_id in self._by_image

    def outcome(self, image_id: str, category: str, mask: str) -> Outcome:
        """What became of a label; see `Outcomes.of_label`."""
        with self._lock:
            found = self._by_image.get(image_id, ())
            return outcomes_of(found).of_label(image_id, category, mask)

    def path_of(self, image_id: str, category: str, mask: str) -> list[Decision]:
        """The decisions that a label's outcome follows from; see `Outcomes.path_of`."""
        with self._lock:
            found = self._by_image.get(image_id, ())
            return list(outcomes_of(found).path_of(image_id, category, mask))

    def append(self, decisions: Sequence[Decision]) -> list[Decision]:
        """Add decisions to the file, in this order; returns them as they were written.

        Each is later than all that there are about its image, even where a clock is wrong: the
        latest wins, and what somebody decides now has to.

        Raises:
            CorpusError, StorageError: as `refresh`; or the file can't be written.
        """
        with self._lock:
            self.refresh()
            written: list[Decision] = []
            for decision in decisions:
                known = [*self._by_image.get(decision.image_id, ()), *written[-1:]]
                latest = max((each.when for each in known), default=decision.when - _STEP)
                written.append(replace(decision, when=max(now(), latest + _STEP)))
            append_decisions(self.path, written)
            self.refresh()
            return written


def _unended(line: bytes) -> list[Decision]:
    """A last line without its end: a decision that somebody typed, or a writer is about to finish.
    It is read again when it has its end, and a decision that is there twice counts once."""
    try:
        return [decision_of(line.decode())]
    except ValueError:
        return []
