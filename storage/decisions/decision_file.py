"""`decisions.jsonl`: one decision a line, only ever appended to.

A line is on disk before its writer is told so. Writers take turns by a lock on the file, so that
several lose nothing; files are merged by concatenation, in any order.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from storage.decisions.decision import Decision, decision_of, line_of
from storage.errors.exceptions import CorpusError
from storage.files.durable_files import make_folder, sync_file, sync_folder
from storage.files.filesystems import display, translated_errors
from storage.files.user_files import Limit, read_uri

_LIMIT: Final = Limit("a file of decisions", 1 << 30)
_TAIL_BYTES: Final = 1 << 24  # more than a line has
EXAMPLE: Final = (
    '{"image_id": "…", "category": "zebra", "mask": "…", "verdict": "reject", '
    '"when": "2030-01-31T12:00:00Z"}'
)


def read_decisions(place: str) -> list[Decision]:
    """All decisions of a file, in its order.

    A last line without an end that holds no decision is what a writer left that died: it is passed
    over, as that decision was never confirmed.

    Args:
        place: path or URI.

    Raises:
        CorpusError: a line is no decision; the sentence has its number.
        StorageError: the file is not there, can't be read, or is too large.
    """
    data = read_uri(place, _LIMIT)
    decisions: list[Decision] = []
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            decisions.append(decision_of(line.decode("utf-8")))
        except ValueError as error:
            if number == len(lines):
                break
            why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            raise CorpusError(
                f"Line {number} of {display(place)} is no decision ({why}); correct it or take it "
                "out."
            ) from error
    return decisions


def append_decisions(path: Path, decisions: Sequence[Decision]) -> None:
    """Add decisions to the end of a local file, which is made where there is none.

    All of them are on disk when this returns. If it raises, the file is as it was before.

    Raises:
        StorageError: the file can't be written: no space, no permission, no regular file.
    """
    new = "".join(f"{line_of(each)}\n" for each in decisions).encode()
    with translated_errors("write", str(path)):
        is_new = not path.exists()
        make_folder(path.parent)
        with path.open("ab+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = _end_of_whole_lines(file.fileno())
            before = os.fstat(file.fileno()).st_size
            try:
                _append(file.fileno(), (b"\n" if end is None else b"") + new, before, end)
                sync_file(file)
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(file.fileno(), before if end is None else end)
                raise
        if is_new:
            sync_folder(path.parent)


def _append(descriptor: int, data: bytes, size: int, end: int | None) -> None:
    if end is not None and end < size:
        os.ftruncate(descriptor, end)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _end_of_whole_lines(descriptor: int) -> int | None:
    """Where to append: behind the last whole line, and before what a writer left that died; None
    where a decision stands at the end and only its line's end is missing."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - _TAIL_BYTES)
    tail = os.pread(descriptor, size - start, start)
    last = tail[tail.rfind(b"\n") + 1 :]
    if not last.strip():
        return size
    try:
        decision_of(last.decode("utf-8"))
    except ValueError:
        return size - len(last)
    return None


def merged(files: Iterable[Sequence[Decision]]) -> list[Decision]:
    """Decisions of several files, each once, in the order of their times."""
    distinct = {decision.order: decision for file in files for decision in file}
    return [distinct[order] for order in sorted(distinct)]
