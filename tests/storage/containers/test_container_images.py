"""Images in zips, Parquet and Arrow files and saved data sets, from listing to second reading."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections import Counter
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.corpora.corpus import list_corpus
from storage.corpora.image_bytes import ImageBytes, iter_entry, read_image_bytes
from storage.corpora.selection import Selection
from storage.errors.exceptions import CorpusError, ImageRejected
from storage.errors.reject_reasons import REJECT_REASONS
from tests.support.files.bad_images import HTML, jpeg, palette_png, write

IMAGE_STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def zip_bytes(members, compression=zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def image_table(images: list[bytes | None], paths: list[str | None], **others: list) -> pa.Table:
    rows = [{"bytes": data, "path": path} for data, path in zip(images, paths, strict=True)]
    return pa.table({**others, "image": pa.array(rows, IMAGE_STRUCT)})


def arrow_bytes(table: pa.Table, form: str = "stream", rows: int = 2, **options) -> bytes:
    buffer = io.BytesIO()
    new = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with new(buffer, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return buffer.getvalue()


def items_of(spec: object, others: Counter[str] | None = None, **options) -> list[ImageBytes]:
    """The images of all entries, each of which is also read again by its place."""
    found = []
    for row in list_corpus([str(spec)]).entries.to_pylist():
        found += iter_entry(row["uri"], row["kind"], others=others, **options)
    for item in found:
        assert (item.data is None) == (item.reject_reason is not None)
        assert item.reject_reason is None or item.reject_reason in REJECT_REASONS
        if item.data is not None:
            assert read_image_bytes(item.uri, item.offset, item.length) == item.data
    return found


def outcomes(items: list[ImageBytes]) -> dict[str, bytes | str | None]:
    assert len({item.member for item in items}) == len(items)
    return {item.member: item.data or item.reject_reason for item in items}


class TestZips:
    @pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    @pytest.mark.parametrize("place", ["local", "memory"])
    def test_members_and_their_places(self, tmp_path, place, compression):
        data = zip_bytes(
            [("a.jpg", jpeg(1)), ("d/ü.PNG", jpeg(2)), ("d/plain", jpeg(3)), ("x.txt", b"a")],
            compression,
        )
        if place == "local":
            spec = str(write(tmp_path / "z.zip", data))
        else:
            spec = "memory:///container_images/z.zip"
            fsspec.filesystem("memory").pipe(spec, data)
        others: Counter[str] = Counter()
        found = outcomes(items_of(spec, others))
        assert found == {"a.jpg": jpeg(1), "d/ü.PNG": jpeg(2), "d/plain": jpeg(3)}
        assert others == {"txt": 1}

    def test_a_zip_written_to_a_pipe_has_its_lengths_behind_the_members(self, tmp_path):
        class Pipe(io.RawIOBase):
            def __init__(self) -> None:
                self.written = bytearray()

            def writable(self) -> bool:
                return True

            def write(self, data) -> int:
                self.written += data
                return len(data)

        pipe = Pipe()
        with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.jpg", jpeg(1))
            archive.writestr("b.jpg", jpeg(2))
        spec = write(tmp_path / "z.zip", bytes(pipe.written))
        assert outcomes(items_of(spec)) == {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}

    def test_names_that_lead_elsewhere_hidden_ones_and_label_maps_are_rejected(self, tmp_path):
        members = [
            ("/etc/a.jpg", jpeg(1)), ("../a.jpg", jpeg(1)), ("__MACOSX/a.jpg", jpeg(1)),
            ("SegmentationClass/a.png", palette_png()), ("a.mask.png", jpeg(1)),
            ("masks/a.png", palette_png()), ("images/a.jpg", jpeg(2)), ("a.jpg", jpeg(3)),
            ("b.jpg", b""), ("c.jpg", HTML),
        ]  # fmt: skip
        found = outcomes(items_of(write(tmp_path / "z.zip", zip_bytes(members))))
        assert found == {
            "/etc/a.jpg": "unsafe_member_name", "../a.jpg": "unsafe_member_name",
            "__MACOSX/a.jpg": "hidden_member", "SegmentationClass/a.png": "label_map",
            "a.mask.png": "label_map", "masks/a.png": "label_map", "images/a.jpg": jpeg(2),
            "a.jpg": jpeg(3), "b.jpg": "empty_file", "c.jpg": HTML,
        }  # fmt: skip

    def test_the_first_of_two_members_of_one_name_is_kept(self, tmp_path):
        with pytest.warns(UserWarning, match="Duplicate name"):
            data = zip_bytes([("a.jpg", jpeg(1)), ("./a.jpg", jpeg(2)), ("a.jpg", jpeg(3))])
        items = items_of(write(tmp_path / "z.zip", data))
        assert [item.reject_reason for item in items] == [None, *["duplicate_member"] * 2]

    def test_members_that_are_encrypted_or_packed_in_other_ways(self, tmp_path):
        data = bytearray(zip_bytes([("a.jpg", jpeg(1)), ("b.jpg", jpeg(2))]))
        central = data.index(b"PK\x01\x02")
        data[central + 8] |= 1
        items = items_of(write(tmp_path / "z.zip", bytes(data)))
        assert [item.reject_reason for item in items] == ["encrypted_member", None]
        packed = zip_bytes([("a.jpg", jpeg(1))], zipfile.ZIP_BZIP2)
        items = items_of(write(tmp_path / "y.zip", packed))
        assert [item.reject_reason for item in items] == ["unsupported_compression"]

    def test_a_bomb_is_not_inflated(self, tmp_path):
        data = zip_bytes([("a.jpg", bytes(10_000_000)), ("b.jpg", jpeg(1))])
        assert len(data) < 50_000
        found = outcomes(items_of(write(tmp_path / "z.zip", data), max_bytes=1_000_000))
        assert found == {"a.jpg": "file_too_large", "b.jpg": jpeg(1)}

    def test_a_member_that_inflates_to_more_than_it_claims_is_damaged(self, tmp_path):
        data = bytearray(zip_bytes([("a.jpg", bytes(1_000_000))]))
        central = data.index(b"PK\x01\x02")
        data[central + 24 : central + 28] = struct.pack("<I", 1_000)
        items = items_of(write(tmp_path / "z.zip", bytes(data)))
        assert [item.reject_reason for item in items] == ["damaged_member"]

    def test_members_that_share_their_bytes_are_damaged(self, tmp_path):
        # As in bombs whose thousands of members are all the same bytes.
        data = bytearray(zip_bytes([("a.jpg", jpeg(1)), ("b.jpg", jpeg(2))]))
        second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
        data[second + 42 : second + 46] = struct.pack("<I", 0)
        items = items_of(write(tmp_path / "z.zip", bytes(data)))
        assert "damaged_member" in [item.reject_reason for item in items]

    def test_a_zip_that_is_cut_is_no_zip(self, tmp_path):
        data = zip_bytes([("a.jpg", jpeg(1))])
        for number, content in enumerate((data[:-9], b"", HTML)):
            spec = write(tmp_path / f"{number}.zip", content)
            assert [item.reject_reason for item in items_of(spec)] == ["not_a_zip"]

    def test_patterns_select_members(self, tmp_path):
        spec = write(tmp_path / "z.zip", zip_bytes([("a/1.jpg", jpeg(1)), ("b/2.jpg", jpeg(2))]))
        others: Counter[str] = Counter()
        items = items_of(spec, others, selection=Selection.of(["a/*"], []))
        assert outcomes(items) == {"a/1.jpg": jpeg(1)}
        assert others == {"excluded": 1}

    def test_a_member_that_has_changed_is_not_read(self, tmp_path):
        path = write(tmp_path / "z.zip", zip_bytes([("a.jpg", jpeg(1))]))
        [item] = items_of(path)
        path.write_bytes(b"\0" * 5_000)
        with pytest.raises(ImageRejected, match="changed"):
            read_image_bytes(item.uri, item.offset, item.length)


class TestParquet:
    def test_images_in_groups_of_rows(self, tmp_path):
        images = [jpeg(number) for number in range(25)]
        paths = [f"d/{number}.jpg" for number in range(25)]
        pq.write_table(image_table(images, paths, label=list(range(25))), tmp_path / "t.parquet",
                       row_group_size=10)  # fmt: skip
        items = items_of(tmp_path / "t.parquet")
        assert outcomes(items) == dict(zip(paths, images, strict=True))
        assert [item.offset for item in items] == list(range(25))

    def test_rows_without_bytes_are_rejected(self, tmp_path):
        table = image_table([jpeg(1), None, b""], [None, "b.jpg", "/home/someone/c.jpg"])
        pq.write_table(table, tmp_path / "t.parquet")
        found = outcomes(items_of(tmp_path / "t.parquet"))
        assert found == {"row=0": jpeg(1), "b.jpg": "no_bytes", "c.jpg": "empty_file"}

    def test_bytes_are_read_rather_than_addresses_unless_the_column_is_named(self, tmp_path):
        write(tmp_path / "a.jpg", jpeg(2))
        table = image_table([jpeg(1)], ["x.jpg"], url=["a.jpg"])
        pq.write_table(table, tmp_path / "t.parquet")
        [entry] = list_corpus([str(tmp_path / "t.parquet")]).entries.to_pylist()
        assert entry["kind"] == "parquet"
        listing = list_corpus([str(tmp_path / "t.parquet")], uri_column="url")
        assert listing.entries["uri"].to_pylist() == [str(tmp_path / "a.jpg")]

    def test_a_column_of_plain_bytes(self, tmp_path):
        pq.write_table(pa.table({"jpg": [jpeg(1)], "text": ["x"]}), tmp_path / "t.parquet")
        assert outcomes(items_of(tmp_path / "t.parquet")) == {"row=0": jpeg(1)}

    def test_sounds_are_no_images(self, tmp_path):
        rows = pa.array([{"bytes": b"RIFF", "path": "a.wav"}], IMAGE_STRUCT)
        features = {"info": {"features": {"clip": {"_type": "Audio"}}}}
        table = pa.table({"clip": rows}).replace_schema_metadata(
            {"huggingface": json.dumps(features)}
        )
        pq.write_table(table, tmp_path / "t.parquet")
        with pytest.raises(CorpusError, match="no column `uri`"):
            list_corpus([str(tmp_path / "t.parquet")])

    def test_a_damaged_group_keeps_the_rows_before_it(self, tmp_path):
        images = [jpeg(number) for number in range(20)]
        buffer = io.BytesIO()
        pq.write_table(image_table(images, [None] * 20), buffer, row_group_size=10,
                       compression="zstd")  # fmt: skip
        data = bytearray(buffer.getvalue())
        start = pq.ParquetFile(buffer).metadata.row_group(1).column(0).data_page_offset
        data[start : start + 200] = b"\xff" * 200
        items = items_of(write(tmp_path / "t.parquet", bytes(data)))
        assert [item.data for item in items[:10]] == images[:10]
        assert items[-1].reject_reason == "damaged_table"

    def test_a_row_that_is_gone_is_a_reject(self, tmp_path):
        path = tmp_path / "t.parquet"
        pq.write_table(image_table([jpeg(1), jpeg(2)], [None, None]), path)
        item = items_of(path)[1]
        pq.write_table(image_table([jpeg(1)], [None]), path)
        with pytest.raises(ImageRejected, match="changed"):
            read_image_bytes(item.uri, item.offset, item.length)


class TestArrow:
    @pytest.mark.parametrize("form", ["stream", "file"])
    @pytest.mark.parametrize("place", ["local", "memory"])
    def test_images_are_ranges_of_the_file(self, tmp_path, place, form):
        images = [jpeg(number) for number in range(5)]
        data = arrow_bytes(image_table(images, [None] * 5, label=list("abcde")), form)
        if place == "local":
            spec = str(write(tmp_path / "t.arrow", data))
        else:
            spec = "memory:///container_images/t.arrow"
            fsspec.filesystem("memory").pipe(spec, data)
        items = items_of(spec)
        assert [item.data for item in items] == images
        for item in items:
            assert data[item.offset : item.offset + item.length] == item.data

    def test_rows_without_bytes_are_rejected(self, tmp_path):
        table = image_table([None, jpeg(1), b""], ["a.jpg", "b.jpg", "c.jpg"])
        found = outcomes(items_of(write(tmp_path / "t.arrow", arrow_bytes(table))))
        assert found == {"a.jpg": "no_bytes", "b.jpg": jpeg(1), "c.jpg": "empty_file"}

    def test_a_compressed_file_is_rejected(self, tmp_path):
        table = image_table([jpeg(1) * 50], [None])
        data = arrow_bytes(table, compression="zstd")
        items = items_of(write(tmp_path / "t.arrow", data))
        assert [item.reject_reason for item in items] == ["compressed_table"]

    def test_a_file_that_is_cut_keeps_the_rows_before_that(self, tmp_path):
        images = [jpeg(number) for number in range(4)]
        data = arrow_bytes(image_table(images, [None] * 4))
        items = items_of(write(tmp_path / "t.arrow", data[: len(data) - len(jpeg(3))]))
        assert [item.data for item in items[:2]] == images[:2]
        assert items[-1].reject_reason == "damaged_table"
        assert [i.reject_reason for i in items_of(write(tmp_path / "h.arrow", HTML))] == [
            "damaged_table"
        ]


class TestSavedDatasets:
    def test_what_the_datasets_package_writes(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        images = [jpeg(number) for number in range(4)]
        rows = [{"bytes": data, "path": f"{n}.jpg"} for n, data in enumerate(images)]
        features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
        whole = datasets.Dataset.from_dict({"image": rows, "label": [0, 1, 2, 3]}, features)
        whole.save_to_disk(tmp_path / "one", num_shards=2)
        datasets.DatasetDict({"train": whole, "test": whole.select([0])}).save_to_disk(
            tmp_path / "splits"
        )
        whole.to_parquet(tmp_path / "t.parquet")
        assert [item.data for item in items_of(tmp_path / "one")] == images
        assert [item.data for item in items_of(tmp_path / "splits")] == [images[0], *images]
        assert [item.data for item in items_of(tmp_path / "t.parquet")] == images

    @pytest.mark.parametrize(
        "state", ["", "[]", "{}", '{"_data_files": [{"filename": "../x.arrow"}]}']
    )
    def test_damaged_lists_of_files(self, tmp_path, state):
        (tmp_path / "dataset_info.json").write_text("{}")
        (tmp_path / "state.json").write_text(state)
        with pytest.raises(CorpusError, match=r"saved data set's .*state\.json"):
            list_corpus([str(tmp_path)])


class TestFolders:
    def kinds(self, folder: Path) -> dict[str, str]:
        rows = list_corpus([str(folder)]).entries.to_pylist()
        return {Path(row["uri"]).name: row["kind"] for row in rows}

    def test_a_folder_of_containers_is_read_by_them(self, tmp_path):
        write(tmp_path / "README.md", b"")
        write(tmp_path / "data/a.zip", zip_bytes([("a.jpg", jpeg(1))]))
        pq.write_table(image_table([jpeg(1)], [None]), tmp_path / "data/train.parquet")
        pq.write_table(pa.table({"uri": ["a.jpg"]}), tmp_path / "data/list.parquet")
        assert self.kinds(tmp_path) == {"a.zip": "zip", "train.parquet": "parquet"}

    def test_a_folder_with_images_leaves_them_alone(self, tmp_path):
        write(tmp_path / "a.zip", zip_bytes([("a.jpg", jpeg(1))]))
        write(tmp_path / "a.jpg", jpeg(1))
        assert self.kinds(tmp_path) == {"a.jpg": "image"}
        assert list_corpus([str(tmp_path)]).ignored == {"zip": 1}

    def test_a_pattern_of_zips_is_one_corpus(self, tmp_path):
        for name in ("a", "b"):
            write(tmp_path / f"{name}.zip", zip_bytes([("a.jpg", jpeg(1))]))
        listing = list_corpus([str(tmp_path / "*.zip")])
        assert listing.entries["kind"].to_pylist() == ["zip", "zip"]
