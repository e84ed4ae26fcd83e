"""Work in threads gives up when the process is to stop, unless something is being kept."""

from __future__ import annotations

import threading

import pytest

from flows.execution.progress import StageProgress
from tasks.stage import stopping


@pytest.fixture(autouse=True)
def nobody_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_stop_requested", threading.Event())


def test_nothing_stops_before_it_is_told():
    stopping.check()
    assert not stopping.is_stopping()


def test_what_was_told_stops_at_the_next_image():
    progress = StageProgress("embed_images", total=3, parts=1, cached_parts=0)
    progress.advance()
    stopping.stop()
    with pytest.raises(stopping.Stopped):
        progress.advance()
    assert progress.done == 1


def test_no_handler_of_bad_images_takes_it_for_an_error():
    assert not issubclass(stopping.Stopped, Exception)


def test_whoever_keeps_something_goes_on_to_the_end_of_it():
    stopping.stop()
    with stopping.finishing():
        assert stopping.is_finishing()
        stopping.check()
    assert not stopping.is_finishing()
    with pytest.raises(stopping.Stopped):
        stopping.check()
