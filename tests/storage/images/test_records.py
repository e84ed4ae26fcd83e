from __future__ import annotations

import errno
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors.exceptions import ArtifactError, StorageError
from storage.images.records import RECORD_SCHEMA, read_parquet, write_parquet


def table(rows: int) -> pa.Table:
    def value(field: pa.Field, row: int) -> str | int:
        return f"{field.name} {row}" if field.type == pa.string() else row

    columns = {field.name: [value(field, row) for row in range(rows)] for field in RECORD_SCHEMA}
    return pa.table(columns, schema=RECORD_SCHEMA)


def test_round_trip(tmp_path):
    file = tmp_path / "key=value" / "records.parquet"
    file.parent.mkdir()
    write_parquet(table(10), file)
    assert read_parquet(file).equals(table(10))
    assert read_parquet(file).schema == RECORD_SCHEMA
    write_parquet(RECORD_SCHEMA.empty_table(), file)
    assert read_parquet(str(file)).num_rows == 0


def test_equal_rows_give_equal_bytes():
    whole = table(1000)
    pieces = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 700), whole.slice(701)])
    pandas = whole.replace_schema_metadata({"pandas": "{}"})
    files = []
    for version in (whole, pieces, pandas):
        file = io.BytesIO()
        write_parquet(version, file)
        files.append(file.getvalue())
    assert files[0] == files[1] == files[2]


def test_row_groups_and_compression(tmp_path):
    write_parquet(table(70_000), tmp_path / "x")
    metadata = pq.ParquetFile(tmp_path / "x").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [
        65_536,
        4_464,
    ]
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_damage_and_absence_are_distinguished(tmp_path):
    with pytest.raises(StorageError, match="does not exist"):
        read_parquet(tmp_path / "none")
    write_parquet(table(10), tmp_path / "x")
    data = (tmp_path / "x").read_bytes()
    for cut in (data[:-3], data[:10], b""):
        (tmp_path / "x").write_bytes(cut)
        with pytest.raises(ArtifactError, match="is damaged"):
            read_parquet(tmp_path / "x")


def test_full_disk():
    class Full(io.BytesIO):
        name = "/full/disk"

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="/full/disk: the disk is full"):
        write_parquet(table(1), Full())
