"""Pillow's warnings while it reads an image, recorded for that image instead of printed.

`warnings.catch_warnings` changes the whole process, so that threads that decode side by side would
lose each other's warnings, or the process its filters. Here Pillow's modules get another `warn`: in
a thread that records warnings it records them, and everywhere else it is Python's own.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from PIL import Image, TiffImagePlugin

from storage.errors.reject_reasons import DAMAGED_METADATA, ODD_FILE
from storage.images.libtiff_messages import watch_libtiff

_METADATA_WORDS: Final = ("EXIF", "Metadata")


class _Notes(threading.local):
    """The words recorded so far in this thread; None where it records none."""

    words: set[str] | None = None


_notes: Final = _Notes()


@contextmanager
def noted_warnings(words: set[str] | None = None) -> Iterator[set[str]]:
    """Record Pillow's warnings in this thread while the block runs.

    Args:
        words: that were noted before, to which others are added.

    Yields:
        The words of `IMAGE_WARNINGS` that apply; complete at the block's end.
    """
    words = set() if words is None else words
    before, _notes.words = _notes.words, words
    try:
        yield words
    finally:
        _notes.words = before


def _note(message: object, module: str) -> None:
    assert _notes.words is not None, "this thread records warnings"
    is_metadata = module == TiffImagePlugin.__name__ or any(
        word in str(message) for word in _METADATA_WORDS
    )
    _notes.words.add(DAMAGED_METADATA if is_metadata else ODD_FILE)


class _Warnings:
    """The module `warnings`, as one of Pillow's modules sees it."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(warnings, name)

    def warn(
        self,
        message: Warning | str,
        category: type[Warning] | None = None,
        stacklevel: int = 1,
        **options: Any,
    ) -> None:
        if _notes.words is None:
            warnings.warn(message, category, stacklevel + 1, **options)
        else:
            _note(message, self._module)


class _LogFilter(logging.Filter):
    """Notes what Pillow logs as a warning or worse: without a handler, that is printed."""

    def filter(self, record: logging.LogRecord) -> bool:
        if _notes.words is None or record.levelno < logging.WARNING:
            return True
        _note(record.getMessage(), record.name)
        return False


def _note_from_libtiff() -> bool:
    if _notes.words is None:
        return False
    _notes.words.add(ODD_FILE)
    return True


def watch_pillow() -> None:
    """Record the warnings of Pillow's modules that are imported by now; each is patched once."""
    watch_libtiff(_note_from_libtiff)
    for name, module in list(sys.modules.items()):
        if not name.startswith(f"{Image.__package__}."):
            continue
        if getattr(module, "warnings", None) is warnings:
            module.warnings = _Warnings(name)  # type: ignore[attr-defined]
        log = getattr(module, "logger", None)
        if isinstance(log, logging.Logger) and not any(
            isinstance(each, _LogFilter) for each in log.filters
        ):
            log.addFilter(_LogFilter())
