"""Ordered results of threads, computed ahead within the memory limit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.workers.reading_ahead import in_order


@pytest.mark.parametrize(
    ("size", "ahead", "most_begun"),
    [(0, 5, 6), (1, 100, 11), (3, 100, 4), (10, 100, 2), (11, 100, 2), (1000, 100, 2)],
)
def test_futures_are_submitted_within_the_memory_limit_and_returned_in_order(
    size, ahead, most_begun
):
    begun, used, most = 0, 0, 0

    def futures():
        nonlocal begun, most
        for number in range(40):
            begun += 1
            most = max(most, begun - used)
            yield pool.submit(int, number), size

    results = []
    with ThreadPoolExecutor(4) as pool:
        for result in in_order(futures(), ahead=ahead, bytes_ahead=10):
            results.append(result)
            used += 1
    assert results == list(range(40))
    assert most == most_begun


def test_a_failure_comes_in_its_turn():
    with ThreadPoolExecutor(2) as pool:
        numbers = in_order(((pool.submit(int, text), 0) for text in ("1", "2", "x")), ahead=9)
        assert next(numbers) == 1
        assert next(numbers) == 2
        with pytest.raises(ValueError, match="invalid literal"):
            next(numbers)
