"""Results of threads in the order of the tasks, a few of them ahead of who uses them.

How many is a matter of memory: of small images a hundred wait without harm, of large ones two are
a gigabyte.
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
    """Results in the order of their futures, which are begun as they are asked for.

    Args:
        futures: and the bytes that each holds from its begin until its result is used: of what it
            was given, or of its result.
        ahead: futures that are begun before the first result is waited for, at most.
        bytes_ahead: that they hold together, at most; one may have more.
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
