"""Ordered results of threads, computed ahead within a memory limit.

A hundred small images may wait without harm, but two large ones are a gigabyte.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Final, TypeVar

Result = TypeVar("Result")

BYTES_AHEAD: Final = 256 * 2**20


def in_order(
    futures: Iterable[tuple[Future[Result], int]], *, ahead: int, bytes_ahead: int = BYTES_AHEAD
) -> Iterator[Result]:
    """Results in the order of their futures, which are submitted lazily.

    Args:
        futures: each with the bytes of its arguments or its result, which it holds from its
            submission until its result is used.
        ahead: limit of the futures that are submitted ahead of the awaited one.
        bytes_ahead: limit of the bytes that they hold together; a single one may exceed it.
    """
    window: deque[tuple[Future[Result], int]] = deque()
    held = 0
    for future, size in futures:
        window.append((future, size))
        held += size
        while len(window) > ahead or (held > bytes_ahead and len(window) > 1):
            first, first_size = window.popleft()
            held -= first_size
            yield first.result()
    while window:
        yield window.popleft()[0].result()
