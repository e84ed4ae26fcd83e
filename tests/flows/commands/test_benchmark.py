"""`zutis benchmark list`: complete, incomplete and missing data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors.exceptions import ConfigError
from storage.evaluation_sets.opening import BENCHMARKS
from tests.support.runs.command_line import said


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("ZUTIS_DATA", raising=False)


def run(*arguments: str) -> str:
    return said("benchmark", "list", *arguments)


def rows(output: str) -> dict[str, str]:
    return {line.split()[1]: line for line in output.splitlines() if line.startswith("│")}


def put_coca(root: Path, *, images: int, masks: int) -> None:
    for folder, suffix, count in (("image", "jpg", images), ("binary", "png", masks)):
        (root / "coca" / folder / "key").mkdir(parents=True)
        for number in range(count):
            (root / "coca" / folder / f"key/{number}.{suffix}").touch()


def test_an_empty_folder_lacks_everything(tmp_path):
    output = run("--data", str(tmp_path))
    assert rows(output).keys() == BENCHMARKS.keys()
    assert all(row.rstrip(" │").endswith("no") for row in rows(output).values())
    assert f"coca needs {tmp_path}/coca/image, {tmp_path}/coca/binary" in output
    assert "from http://images.cocodataset.org/zips/val2017.zip" in output


def test_a_whole_data_set_is_there_and_needs_nothing(tmp_path):
    put_coca(tmp_path, images=1295, masks=1295)
    output = run("--data", str(tmp_path))
    assert "yes" in rows(output)["coca"]
    assert "coca needs" not in output


def test_files_are_counted(tmp_path):
    put_coca(tmp_path, images=1295, masks=7)
    output = run("--data", str(tmp_path))
    assert "in part" in rows(output)["coca"]
    assert f"coca needs {tmp_path}/coca/binary (7 of 1,295 files)" in output


def test_the_folder_may_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ZUTIS_DATA", str(tmp_path))
    assert f"Folder: {tmp_path}" in run()


def test_without_a_folder_it_tells_layout_and_source():
    output = run()
    assert "give --data DIR or set ZUTIS_DATA" in output
    assert "voc2012-val needs VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt" in output


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        run("--data", str(tmp_path / "nowhere"))
