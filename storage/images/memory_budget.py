"""Memory budgets that the threads of a process share: a thread waits until its part is free.

Eight threads that each decode an image of the largest size would need eight times the memory of
one. A thread states beforehand how much it will take; threads are served in the order of their
requests, so that large amounts aren't overtaken for ever.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from PIL import Image


class MemoryBudget:
    """Bytes that the threads of a process hold together at most.

    An amount above the total is let pass alone, when nothing else is held. A thread holds one
    amount at a time and never waits while it does, so that no two wait for one another.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._reset()
        if hasattr(os, "register_at_fork"):
            # A child has none of the threads that held something.
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._holders: dict[int, int] = {}

    @property
    def held(self) -> int:
        """Bytes that are held now."""
        return sum(self._holders.values())

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Hold that many bytes inside the block, after waiting until they are free.

        Raises:
            RuntimeError: the thread holds some already, and would wait for itself.
        """
        self._take(threading.get_ident(), max(0, amount))
        try:
            yield
        finally:
            with self._changed:
                del self._holders[threading.get_ident()]
                self._changed.notify_all()

    def _take(self, thread: int, amount: int) -> None:
        turn = object()
        with self._changed:
            if thread in self._holders:
                raise RuntimeError("a thread holds one part of the memory at a time")
            self._waiting.append(turn)
            try:
                self._changed.wait_for(
                    lambda: self._waiting[0] is turn and self._has_room_for(amount)
                )
                self._holders[thread] = amount
            finally:  # also where the wait was interrupted
                self._waiting.remove(turn)
                self._changed.notify_all()

    def _has_room_for(self, amount: int) -> bool:
        return not self._holders or self.held + amount <= self.total


DECODING: Final = MemoryBudget(512 * 2**20)
"""Pixels while images are decoded and made small: ten of 12 megapixels at a time, one of 100."""

READING: Final = MemoryBudget(256 * 2**20)
"""Bytes of images' files, from reading to the end of decoding. To be asked for before `DECODING`,
never inside it."""

# Above what glibc may keep for the thread that gave it back: five images of 36 megapixels were
# resident where three were in use.
_PILLOWS_BLOCK: Final = 64 * 2**20


def give_back_at_once() -> None:
    """Let Pillow take memory for large images in blocks that the system gets back when they are
    closed; unless `PILLOW_BLOCK_SIZE` sets the size of blocks."""
    core: Any = Image.core  # type: ignore[attr-defined]
    if "PILLOW_BLOCK_SIZE" not in os.environ and hasattr(core, "set_block_size"):
        core.set_block_size(_PILLOWS_BLOCK)


_UNKNOWN_FILE: Final = 16 * 2**20


@contextmanager
def hold_for_file(length: int) -> Iterator[None]:
    """Hold memory for a file of that many bytes; -1 where the server doesn't state the size."""
    with READING.hold(_UNKNOWN_FILE if length < 0 else length):
        yield
