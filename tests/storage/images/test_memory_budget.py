"""Memory budgets of threads: the limit holds, and all threads get their turn."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from storage.images.memory_budget import READING, MemoryBudget, hold_for_file

PATIENCE = 20.0  # seconds; otherwise a failing test would hang


class Watched(MemoryBudget):
    """Records the maximum held at a time, and the number of holders."""

    most = most_holders = 0

    def _take(self, thread: int, amount: int) -> None:
        super()._take(thread, amount)
        with self._changed:
            if len(self._holders) > 1:
                self.most = max(self.most, self.held)
            self.most_holders = max(self.most_holders, len(self._holders))


def waiting(budget: MemoryBudget, count: int) -> bool:
    """Wait until that many threads are waiting; whether they are."""
    for _ in range(int(PATIENCE / 0.01)):
        if len(budget._waiting) == count:
            return True
        threading.Event().wait(0.01)
    return False


@pytest.mark.parametrize("seed", range(20))
def test_no_more_is_held_than_there_is_and_all_are_served(seed):
    amounts = np.random.default_rng(seed).integers(0, 150, size=60).tolist()
    budget = Watched(100)

    def hold(amount: int) -> int:
        with budget.hold(amount):
            return amount

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(hold, amounts, timeout=PATIENCE)) == amounts
    assert budget.most <= 100
    assert budget.held == 0


def test_an_amount_above_the_total_waits_for_the_others_and_passes_alone():
    budget, order = MemoryBudget(100), []

    def hold(amount: int) -> None:
        with budget.hold(amount):
            order.append((amount, budget.held))

    with ThreadPoolExecutor(2) as pool:
        with budget.hold(10):
            large = pool.submit(hold, 500)
            assert waiting(budget, 1)
            small = pool.submit(hold, 20)  # would fit, but must not overtake
            assert waiting(budget, 2)
            assert order == []
        large.result(PATIENCE)
        small.result(PATIENCE)
    assert order == [(500, 500), (20, 20)]


def test_several_hold_at_a_time():
    budget = Watched(100)
    together = threading.Barrier(4, timeout=PATIENCE)

    def hold(_: int) -> None:
        with budget.hold(25):
            together.wait()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hold, range(8), timeout=PATIENCE))
    assert budget.most == 100


def test_a_thread_never_waits_for_itself():
    budget = MemoryBudget(100)
    with budget.hold(60):
        with pytest.raises(RuntimeError, match="one part of the memory"), budget.hold(60):
            pass
        assert budget.held == 60
    with budget.hold(100):
        assert budget.held == 100


def test_failures_release_their_memory():
    budget = MemoryBudget(100)
    with pytest.raises(ValueError, match="no image"), budget.hold(100):
        raise ValueError("no image")
    with budget.hold(100):
        pass


def test_an_interrupted_wait_leaves_no_gap_in_the_queue(monkeypatch):
    budget = MemoryBudget(100)
    with budget.hold(100), ThreadPoolExecutor(1) as pool:

        def interrupted() -> None:
            monkeypatch.setattr(
                budget._changed, "wait_for", lambda check: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            with budget.hold(1):
                pass

        with pytest.raises(KeyboardInterrupt):
            pool.submit(interrupted).result(PATIENCE)
        monkeypatch.undo()
        assert len(budget._waiting) == 0
    with budget.hold(100):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_begins_with_all_of_it():
    budget = MemoryBudget(100)
    with budget.hold(100):
        child = multiprocessing.get_context("fork").Process(target=_hold_all, args=(budget,))
        child.start()
        child.join(PATIENCE)
    assert child.exitcode == 0


def _hold_all(budget: MemoryBudget) -> None:
    with budget.hold(100):
        os._exit(0)


@pytest.mark.parametrize(("length", "held"), [(1000, 1000), (-1, 16 * 2**20)])
def test_files_of_unknown_length_are_taken_for_sixteen_megabytes(length, held):
    with hold_for_file(length):
        assert READING.held == held
    assert READING.held == 0
