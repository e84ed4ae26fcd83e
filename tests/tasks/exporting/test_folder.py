"""The folder of an export: whole or not there, and nothing of the user's is ever deleted."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from storage.errors.exceptions import ConfigError, StorageError
from tasks.exporting.folder import MARKER, mark, new_export


def write(out: Path, text: str, *, overwrite: bool = False) -> None:
    with new_export(out, overwrite=overwrite) as folder:
        (folder / "labels").mkdir()
        (folder / "labels" / "file.txt").write_text(text)
        mark(folder, {"format": "made"})


def alone(out: Path) -> bool:
    """Whether nothing is left beside the folder."""
    return list(out.parent.iterdir()) == [out]


def test_it_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "there" / "out"
    write(out, "first")
    assert (out / "labels" / "file.txt").read_text() == "first"
    assert alone(out)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write(out, "first")
    assert (out / MARKER).is_file()
    assert alone(out)


def test_an_older_export_needs_overwrite(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "first")
    with pytest.raises(ConfigError, match="--overwrite"):
        write(out, "second")
    assert (out / "labels" / "file.txt").read_text() == "first"
    write(out, "second", overwrite=True)
    assert (out / "labels" / "file.txt").read_text() == "second"
    assert alone(out)


def test_what_is_no_export_is_never_deleted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="no export"):
        write(out, "second", overwrite=True)
    (out / MARKER).write_text("[]")
    with pytest.raises(ConfigError, match="no export"):
        write(out, "second", overwrite=True)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_other_files_in_an_older_export_are_not_deleted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "first")
    (out / "runs").mkdir()
    with pytest.raises(ConfigError, match="holds runs beside an older export"):
        write(out, "second", overwrite=True)
    assert (out / "runs").is_dir()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("text")
    with pytest.raises(ConfigError, match="is a file"):
        write(tmp_path / "out", "first", overwrite=True)


def test_a_full_disk_leaves_nothing_of_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "first")

    def fill() -> None:
        with new_export(out, overwrite=True) as folder:
            (folder / "half").write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device", "half")

    with pytest.raises(StorageError, match="Could not write"):
        fill()
    assert (out / "labels" / "file.txt").read_text() == "first"
    assert alone(out)


def test_an_interrupt_leaves_nothing_of_it(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stop() -> None:
        with new_export(out, overwrite=False):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert not list(tmp_path.iterdir())
