"""Cancellation of work in threads, except in `finishing` blocks."""

from __future__ import annotations

import threading

import pytest

from flows.execution.progress import StageProgress
from tasks.stage import stopping


@pytest.fixture(autouse=True)
def nobody_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_stop_requested", threading.Event())


def test_nothing_stops_without_a_request():
    stopping.check()
    assert not stopping.is_stopping()


def test_a_request_stops_work_at_the_next_image():
    progress = StageProgress("embed_images", total=3, parts=1, cached_parts=0)
    progress.advance()
    stopping.stop()
    with pytest.raises(stopping.Stopped):
        progress.advance()
    assert progress.done == 1


def test_no_handler_of_bad_images_takes_it_for_an_error():
    assert not issubclass(stopping.Stopped, Exception)


def test_finishing_blocks_run_to_their_end():
    stopping.stop()
    with stopping.finishing():
        assert stopping.is_finishing()
        stopping.check()
    assert not stopping.is_finishing()
    with pytest.raises(stopping.Stopped):
        stopping.check()
