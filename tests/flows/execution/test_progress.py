"""Progress: one state of a stage for all watchers."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from flows.execution.progress import StageProgress, TerminalWatcher, refreshing


def progress(**values: object) -> StageProgress:
    defaults = {"stage": "embed_images", "total": 100, "parts": 4, "cached_parts": 1}
    return StageProgress(**{**defaults, **values})  # type: ignore[arg-type]


def waiting() -> bool:
    """Whether a thread still prints notices of a wait."""
    return any(thread.name == "waiting" for thread in threading.enumerate())


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


def test_a_pipe_hears_of_a_stage_that_runs_and_then_less_and_less_often():
    class Clocked(StageProgress):
        at = 0.0

        @property
        def seconds(self) -> float:
            return self.at

    output = io.StringIO()
    stage = Clocked("make_masks", total=100, parts=4, cached_parts=0)
    heard = []
    with TerminalWatcher(Console(file=output, width=40)) as watcher:
        watcher.begin(stage)
        stage.tell("loading SelfMask [nq20]")
        for second in range(1, 301):
            before = output.getvalue().count("\n")
            stage.at = second
            watcher.refresh(stage)
            if output.getvalue().count("\n") > before:
                heard.append(second)
    assert heard == [1, 11, 21, 32, 48, 72, 108, 162, 222, 282]
    assert output.getvalue().startswith("make_masks: 0 of 100 images; loading SelfMask [nq20]\n")


def test_a_terminal_has_a_bar_and_no_such_lines():
    output = io.StringIO()
    stage = progress(stage="make_masks", cached_parts=0)
    terminal = Console(file=output, force_terminal=True, width=120, _environ={"TERM": "xterm"})
    with TerminalWatcher(terminal) as watcher:
        watcher.begin(stage)
        stage.started -= 20
        watcher.refresh(stage)
    assert "make_masks: 0 of 100" not in output.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_until_the_first_stage_begins_it_says_what_it_waits_for(terminal):
    output = io.StringIO()
    stage = progress(stage="make_masks")
    console = Console(file=output, force_terminal=terminal, _environ={"TERM": "xterm"})
    with TerminalWatcher(console, awaiting="Starting Prefect") as watcher:
        assert waiting()
        watcher.begin(stage)
        told = output.getvalue()
        assert "Starting Prefect …" in told
        stage.finished = stage.started
        watcher.end(stage)
    assert "Starting Prefect" not in output.getvalue()[len(told) :]
    assert not waiting()


def test_what_never_begins_is_waited_for_no_longer_than_the_block():
    with TerminalWatcher(Console(file=io.StringIO()), awaiting="Starting Prefect"):
        assert waiting()
    assert not waiting()
