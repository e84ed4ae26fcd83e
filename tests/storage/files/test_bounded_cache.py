"""A cache keeps what was used last, and is never an error."""

from __future__ import annotations

import os
from pathlib import Path

from storage.files.bounded_cache import BoundedCache


def test_files_are_found_again(tmp_path: Path) -> None:
    cache = BoundedCache(tmp_path / "cache", 1_000)
    assert cache.get("a") is None
    cache.put("a", b"one")
    assert cache.get("a") == b"one"
    assert BoundedCache(tmp_path / "cache", 1_000).get("a") == b"one"


def test_what_was_used_least_recently_goes_first(tmp_path: Path) -> None:
    cache = BoundedCache(tmp_path, 1_000)
    for number in range(9):
        cache.put(f"{number}", bytes(100))
        os.utime(tmp_path / f"{number}", (number, number))
    assert cache.get("0") is not None, "which makes it the one that was used last"
    cache.put("9", bytes(150))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"0", "3", "4", "5", "6", "7", "8", "9"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 900


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = BoundedCache(tmp_path / "file", 1_000)
    cache.put("a", b"one")
    assert cache.get("a") is None
