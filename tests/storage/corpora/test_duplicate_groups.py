"""Lists of near-duplicates in all their formats, and the sentences for those that can't be used."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from storage.corpora.duplicate_groups import read_groups
from storage.errors.exceptions import ConfigError, CorpusError, StorageError

IDS = ["a" * 64, "b" * 64, "c" * 64]


def write(path: Path, columns: dict[str, list]) -> str:
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in table.to_pylist()) + "\n")
    else:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        pyarrow.csv.write_csv(
            table, path, pyarrow.csv.WriteOptions(delimiter=delimiter, quoting_style="needed")
        )
    return str(path)


@pytest.mark.parametrize("extension", ["parquet", "csv", "tsv", "jsonl"])
def test_every_format_reads_alike(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"groups.{extension}"
    found = read_groups(write(path, {"image_id": IDS, "group": [1, 1, 2], "note": ["", "x", ""]}))
    assert found.by_id == dict(zip(IDS, ["1", "1", "2"], strict=True))
    assert found.by_uri == {}
    assert len(found) == 3


@pytest.mark.parametrize("column", ["uri", "path", "file_name"])
def test_paths_are_relative_to_the_file_and_addresses_stay(column: str, tmp_path: Path) -> None:
    places = ["a.jpg", "sub/b.jpg", "/c.jpg", "s3://bucket/d.jpg"]
    found = read_groups(write(tmp_path / "g.csv", {column: places, "group": ["x"] * 4}))
    assert list(found.by_uri) == [
        str(tmp_path / "a.jpg"), str(tmp_path / "sub/b.jpg"), "/c.jpg", "s3://bucket/d.jpg",
    ]  # fmt: skip


def test_an_image_without_group_is_left_out(tmp_path: Path) -> None:
    columns = {"image_id": IDS, "group": ["1", None, ""]}
    assert read_groups(write(tmp_path / "g.jsonl", columns)).by_id == {IDS[0]: "1"}


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    first = read_groups(write(tmp_path / "1.csv", {"image_id": IDS, "group": [1, 1, 2]}))
    second = read_groups(write(tmp_path / "2.jsonl", {"group": [2, 1, 1], "image_id": IDS[::-1]}))
    third = read_groups(write(tmp_path / "3.csv", {"image_id": IDS, "group": [1, 2, 2]}))
    assert first.digest == second.digest != third.digest


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"image_id": IDS}, r"no column `group` \(its columns are image_id\)"),
        ({"name": IDS, "group": [1, 1, 2]}, "no column that names its images"),
        ({"url": ["a"], "path": ["b"], "group": [1]}, "several columns that may name its images"),
        ({"image_id": ["a.jpg"], "group": [1]}, "'a.jpg' for an image_id in (row|line) 1"),
        ({"image_id": [IDS[0]] * 2, "group": [1, 2]}, "in two groups, '1' and '2'"),
        ({"uri": ["a", ""], "group": [1, 1]}, "a group but no image in (row|line) 2"),
        ({"uri": ["a", "b"], "group": ["", ""]}, "names no image that is in a group"),
    ],
)
@pytest.mark.parametrize("extension", ["csv", "jsonl"])
def test_what_is_wrong_is_said(
    columns: dict[str, list], sentence: str, extension: str, tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match=sentence):
        read_groups(write(tmp_path / f"g.{extension}", columns))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none of these"):
        read_groups(str(tmp_path / "groups.txt"))
    with pytest.raises(StorageError, match=r"groups\.csv"):
        read_groups(str(tmp_path / "groups.csv"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(CorpusError, match=r"can't be read as Parquet"):
        read_groups(str(tmp_path / "bad.parquet"))
    (tmp_path / "bad.jsonl").write_text("[1]\n")
    with pytest.raises(CorpusError, match=r"Line 1 of .* is no JSON object"):
        read_groups(str(tmp_path / "bad.jsonl"))
    with pytest.raises(ConfigError):
        read_groups("https://user:secret@host/groups.csv")
