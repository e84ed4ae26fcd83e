"""Progress: one account of a stage, whoever shows it."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from flows.progress import StageProgress, TerminalWatcher, refreshing


def progress(**values: object) -> StageProgress:
    defaults = {"stage": "embed_images", "total": 100, "parts": 4, "cached_parts": 1}
    return StageProgress(**{**defaults, **values})  # type: ignore[arg-type]


def test_describes_done_total_rate_time_left_cached_and_rejected():
    running = progress()
    running.advance(17, duplicates=2)
    running.advance(3, rejected="truncated")
    running.started -= 10.0
    assert running.describe() == (
        "embed_images: 20 of 100 images, 2.0/s, 40.0 s left, 1 of 4 parts cached, "
        "2 duplicates, 3 rejected (3 truncated)"
    )


def test_a_finished_stage_tells_its_duration_and_no_expectation():
    ended = progress(cached_parts=0)
    ended.advance(90)
    ended.finished = ended.started + 45.0
    assert ended.describe() == "embed_images: 90 images, 2.0/s, 45.0 s"
    assert ended.fraction == 1.0


@pytest.mark.parametrize(
    ("parts", "words"), [(1, "retrieve: cached"), (3, "retrieve: cached, 3 parts")]
)
def test_a_stage_that_was_there_already(parts, words):
    cached = progress(stage="retrieve", parts=parts, cached_parts=parts, total=0)
    cached.finished = cached.started
    assert cached.describe() == words


@pytest.mark.parametrize(("done", "total", "expected"), [(0, 0, 0.0), (5, 10, 0.5), (15, 10, 1.0)])
def test_fraction_stays_between_0_and_1_also_where_the_total_was_a_guess(done, total, expected):
    running = progress(total=total)
    running.advance(done)
    assert running.fraction == expected


def test_counts_from_many_threads():
    shared = progress()
    threads = [
        threading.Thread(
            target=lambda: [shared.advance(1, rejected="corrupt") for _ in range(1000)]
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (shared.done, shared.rejects["corrupt"]) == (8000, 8000)


def test_refreshes_while_the_block_runs_and_stops_with_it():
    seen = threading.Event()

    class Watcher:
        refreshes = 0

        def begin(self, progress: StageProgress) -> None: ...

        def refresh(self, progress: StageProgress) -> None:
            self.refreshes += 1
            seen.set()

        def end(self, progress: StageProgress) -> None: ...

    watcher = Watcher()
    with refreshing(progress(), watcher, seconds=0.001):
        assert seen.wait(10.0)
    refreshes = watcher.refreshes
    assert threading.active_count() >= 1
    assert watcher.refreshes == refreshes


def test_the_terminal_gets_one_line_a_stage():
    output = io.StringIO()
    stage = progress(stage="make_masks")
    with TerminalWatcher(Console(file=output, width=120)) as watcher:
        watcher.begin(stage)
        stage.advance(5)
        stage.advance(2, rejected="blank_mask")
        watcher.refresh(stage)
        stage.finished = stage.started + 1.0
        watcher.end(stage)
    assert "make_masks: 7 images, 7.0/s, 1.0 s, 1 of 4 parts cached, 2 rejected (2 blank_mask)" in (
        output.getvalue()
    )
