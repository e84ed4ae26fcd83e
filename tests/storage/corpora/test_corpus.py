from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.corpora.corpus import Source, list_corpus, list_source, open_sources
from storage.corpora.listing import ENTRY_SCHEMA, REJECT_SCHEMA, Listing
from storage.corpora.selection import Selection
from storage.errors.exceptions import CorpusError, StorageError
from storage.errors.reject_reasons import REJECT_REASONS
from storage.files.filesystems import local_path, read_bytes
from tests.support.files.bad_images import encoded, jpeg, noisy_image, palette_png, tar_bytes, write


def listing_of(
    spec: object, *, include: Sequence[str] = (), exclude: Sequence[str] = (), uri_column: str = ""
) -> Listing:
    [source] = open_sources([str(spec)], uri_column=uri_column)
    listing = list_source(source, Selection.of(include, exclude), uri_column=uri_column)
    assert listing.entries.schema == ENTRY_SCHEMA
    assert listing.rejects.schema == REJECT_SCHEMA
    uris = listing.entries["uri"].to_pylist()
    assert uris == sorted(set(uris), key=str.encode)
    assert set(listing.rejects["reason"].to_pylist()) <= set(REJECT_REASONS)
    return listing


def uris(listing: Listing) -> list[str]:
    return listing.entries["uri"].to_pylist()


def rejects(listing: Listing) -> dict[str, str]:
    return dict(zip(*listing.rejects.to_pydict().values(), strict=True))


def write_table(path: Path, **columns: list) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def memory():
    """An empty remote file system."""
    file_system = fsspec.filesystem("memory")
    file_system.store.clear()
    file_system.pseudo_dirs[:] = [""]
    return file_system


class TestFolders:
    def test_images_and_tars_at_any_depth(self, tmp_path):
        a = write(tmp_path / "a.JPG", b"12345")
        b = write(tmp_path / "x/y/b.webp", b"")
        t = write(tmp_path / "x/t.tar", b"1")
        for name in ("notes.txt", "x/more.TXT", "README", "x/t.tar.gz", "frame.000001"):
            write(tmp_path / name, b"")
        listing = listing_of(tmp_path)
        assert listing.entries.to_pylist() == [
            {"uri": str(p), "size": size, "version": str(p.stat().st_mtime_ns), "kind": kind}
            for p, size, kind in [(a, 5, "image"), (t, 1, "tar"), (b, 0, "image")]
        ]
        assert listing.ignored == {"": 1, "other": 1, "tar.gz": 1, "txt": 2}
        assert listing.rejects.num_rows == 0

    def test_hidden_files_and_folders_are_left_out_and_counted(self, tmp_path):
        corpus = tmp_path / ".data"  # a file that the user names is used, hidden or not
        good = write(corpus / "x/a.jpg", b"1")
        for name in (".thumbnails/a.jpg", "x/@eaDir/a.jpg", "__MACOSX/x/b.jpg", "x/._a.jpg"):
            write(corpus / name, b"1")
        listing = listing_of(corpus)
        assert uris(listing) == [str(good)]
        assert listing.ignored == {"hidden file": 1, "hidden folder": 3}

    def test_hidden_files_and_folders_of_a_remote_folder(self, memory):
        names = ["a.jpg", ".thumbnails/a.jpg", "d/@eaDir/a.jpg", "d/._a.jpg"]
        memory.pipe({f"/c/{name}": b"123" for name in names})
        listing = listing_of("memory://c")
        assert uris(listing) == ["memory:///c/a.jpg"]
        assert listing.ignored == {"hidden file": 1, "hidden folder": 2}

    @pytest.mark.parametrize("place", ["local", "remote"])
    def test_label_maps_are_left_out_and_counted(self, tmp_path, memory, place):
        corpus = tmp_path / "SegmentationClass"  # a file that the user names is used
        good = ["a.jpg", "alone.mask.png", "b.png", "c/d.PNG", "root.png"]
        bad = ["a.mask.png", "b.mask.png", "c/d.mask.png", "VOC/SegmentationObject/a.png"]
        for name in (*good, *bad):
            write(corpus / name, b"1")
        root = str(corpus)
        if place == "remote":
            memory.put(root, "/SegmentationClass", recursive=True)
            root = "memory:///SegmentationClass"
        listing = listing_of(root)
        assert uris(listing) == sorted(f"{root}/{name}" for name in good)
        assert listing.ignored == {"label map": 4}

    @pytest.mark.parametrize("place", ["local", "remote"])
    def test_palettes_beside_photographs_are_label_maps(self, tmp_path, memory, place):
        corpus = tmp_path / "c"
        photographs = ["a.jpg", "x/b.JPG", "d.jpg", "e.gif", "JPEGImages/480p/bear/0.jpg",
                       "one/1.jpg", "set/images/7.png"]  # fmt: skip
        drawings = ["e.png", "alone.png", "x/a.png", "two/1.png", "Annotations/480p/other/0.png"]
        maps = ["a.png", "x/b.PNG", "x/b.Mask.PNG", "Annotations/480p/bear/0.png",
                "set/masks/7.png"]  # fmt: skip
        for name in photographs:
            write(corpus / name, b"1")
        write(corpus / "d.png", encoded(noisy_image(), "PNG"))  # a photograph saved twice
        for name in (*drawings, *maps):
            write(corpus / name, palette_png())
        root = str(corpus)
        if place == "remote":
            memory.put(root, "/c", recursive=True)
            root = "memory:///c"
        listing = listing_of(root)
        assert uris(listing) == sorted(f"{root}/{n}" for n in (*photographs, "d.png", *drawings))
        assert listing.ignored == {"label map": 5}

    @pytest.mark.parametrize("place", ["local", "remote"])
    def test_files_without_extension_are_looked_into(self, tmp_path, memory, place):
        corpus = tmp_path / "c"
        write(corpus / "x/3f2a", jpeg())
        for name, data in [("README", b"BM is how bitmaps begin"), ("empty", b""), ("P", b"P1")]:
            write(corpus / name, data)
        write(corpus / "a.bin", jpeg())
        root = str(corpus)
        if place == "remote":
            memory.put(root, "/c", recursive=True)
            root = "memory:///c"
        else:
            os.mkfifo(corpus / "pipe")  # must not block
            (corpus / "link").symlink_to(corpus / "none")
        listing = listing_of(root)
        assert uris(listing) == [f"{root}/x/3f2a"]
        assert listing.entries["kind"].to_pylist() == ["image"]
        assert listing.ignored == {"": 3 if place == "remote" else 5, "bin": 1}
        assert listing.rejects.num_rows == 0

    def test_numbered_files_do_not_fill_the_count_of_extensions(self, tmp_path):
        for i in range(300):
            write(tmp_path / f"x.a{i}", b"")
        ignored = listing_of(tmp_path).ignored
        assert sum(ignored.values()) == 300
        assert len(ignored) <= 201

    def test_odd_names(self, tmp_path):
        names = [b"a b.jpg", b"two\nlines.jpg", b"a.b.c.jpg", b"caf\xe9 1.jpg", b"%41.jpg"]
        names += ["ü.jpg".encode(), b"a::b.jpg", b"q?x#y.jpg", b"{1..3}[ab]*.jpg"]
        for name in names:
            write(tmp_path / os.fsdecode(b"caf\xe9") / os.fsdecode(name), name)
        listing = listing_of(tmp_path)
        assert {read_bytes(uri) for uri in uris(listing)} == set(names)
        found = {os.fsencode(Path(local_path(uri)).name) for uri in uris(listing)}
        assert found == set(names)

    def test_an_empty_folder_is_an_empty_listing(self, tmp_path):
        assert listing_of(tmp_path).entries.num_rows == 0

    def test_links_are_followed(self, tmp_path):
        outside = write(tmp_path / "outside/sub/a.jpg", b"123")
        corpus = tmp_path / "corpus"
        corpus.mkdir()
        (corpus / "folder").symlink_to(outside.parent.parent)
        (corpus / "file.jpg").symlink_to(outside)
        (corpus / "broken.jpg").symlink_to(tmp_path / "none")
        (corpus / "itself.jpg").symlink_to(corpus / "itself.jpg")
        listing = listing_of(corpus)
        assert uris(listing) == [str(corpus / "file.jpg"), str(corpus / "folder/sub/a.jpg")]
        assert listing.entries["size"].to_pylist() == [3, 3]
        assert rejects(listing) == {
            str(corpus / "broken.jpg"): "missing",
            str(corpus / "itself.jpg"): "symlink_loop",
        }

    def test_loops_end_and_are_recorded(self, tmp_path):
        a = write(tmp_path / "a/b/c.jpg", b"").parent.parent
        (a / "b/up").symlink_to(a)
        (a / "self").symlink_to(".")
        listing = listing_of(tmp_path)
        assert uris(listing) == [str(a / "b/c.jpg")]
        assert rejects(listing) == {
            str(a / "b/up"): "symlink_loop",
            str(a / "self"): "symlink_loop",
        }

    def test_a_loop_by_way_of_outside(self, tmp_path):
        corpus, outside = tmp_path / "corpus", tmp_path / "outside"
        write(corpus / "a.jpg", b"")
        write(outside / "b.jpg", b"")
        (corpus / "out").symlink_to(outside)
        (outside / "back").symlink_to(corpus)
        listing = listing_of(corpus)
        assert uris(listing) == [str(corpus / "a.jpg"), str(corpus / "out/b.jpg")]
        assert rejects(listing) == {str(corpus / "out/back"): "symlink_loop"}

    def test_a_folder_with_two_names_is_listed_by_its_real_one(self, tmp_path):
        write(tmp_path / "z/a.jpg", b"")
        (tmp_path / "a_link").symlink_to(tmp_path / "z")
        listing = listing_of(tmp_path)
        assert uris(listing) == [str(tmp_path / "z/a.jpg")]
        assert rejects(listing) == {str(tmp_path / "a_link"): "duplicate_folder"}

    def test_many_links_do_not_multiply(self, tmp_path):
        for level in range(25):  # 2 ** 25 paths
            write(tmp_path / f"{level}/{level}.jpg", b"")
            if level:
                (tmp_path / f"{level}/a").symlink_to(tmp_path / f"{level - 1}")
                (tmp_path / f"{level}/b").symlink_to(tmp_path / f"{level - 1}")
        assert listing_of(tmp_path / "24").entries.num_rows == 25

    def test_pipes_and_folders_that_look_like_images(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.jpg")
        inside = write(tmp_path / "folder.jpg/a.png", b"")
        listing = listing_of(tmp_path)
        assert uris(listing) == [str(inside)]
        assert rejects(listing) == {str(tmp_path / "pipe.jpg"): "not_a_file"}

    def test_unreadable_folders(self, tmp_path, monkeypatch):
        good = write(tmp_path / "good/a.jpg", b"")
        write(tmp_path / "locked/b.jpg", b"")
        scandir = os.scandir

        def guarded(path):
            if os.fspath(path).endswith("locked"):
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", guarded)  # the tests may run as root
        listing = listing_of(tmp_path)
        assert uris(listing) == [str(good)]
        assert rejects(listing) == {str(tmp_path / "locked"): "unreadable_folder"}
        with pytest.raises(StorageError, match="permission denied"):
            open_sources([str(tmp_path / "locked")])

    def test_remote(self, memory):
        memory.pipe({"/c/a.jpg": b"123", "/c/d/b.png": b"", "/c/d/t.tar": b"1", "/c/x.txt": b""})
        listing = listing_of("memory://c")
        assert uris(listing) == ["memory:///c/a.jpg", "memory:///c/d/b.png", "memory:///c/d/t.tar"]
        assert listing.entries["size"].to_pylist() == [3, 0, 1]
        assert listing.entries["kind"].to_pylist() == ["image", "image", "tar"]
        assert listing.ignored == {"txt": 1}
        assert read_bytes(uris(listing)[0]) == b"123"
        before = listing.entries["version"].to_pylist()
        memory.pipe("/c/a.jpg", b"456")
        after = listing_of("memory://c/").entries["version"].to_pylist()
        assert (before[0] != after[0], before[1:] == after[1:]) == (True, True)

    def test_remote_folder_that_may_not_be_listed(self, memory, monkeypatch):
        memory.pipe({"/c/a.jpg": b"", "/c/locked/b.jpg": b""})
        ls = type(memory).ls

        def guarded(self, path, *args, **kwargs):
            if "locked" in path:
                raise PermissionError("Access Denied")
            return ls(self, path, *args, **kwargs)

        monkeypatch.setattr(type(memory), "ls", guarded)
        listing = listing_of("memory://c")
        assert uris(listing) == ["memory:///c/a.jpg"]
        assert rejects(listing) == {"memory:///c/locked": "unreadable_folder"}


class TestTars:
    def test_globs_braces_and_single_ones(self, tmp_path):
        paths = [write(tmp_path / f"t{i:03}.tar", tar_bytes([])) for i in range(3)]
        for spec in (
            "*.tar",
            "t{000..002}.tar",
            "t{000,001,002}.tar",
            "t00[0-2].tar",
            "t{000..001}.tar",
        ):
            listing = listing_of(tmp_path / spec)
            expected = paths[:2] if spec == "t{000..001}.tar" else paths
            assert uris(listing) == [str(path) for path in expected]
            assert set(listing.entries["kind"].to_pylist()) == {"tar"}
        [source] = open_sources([str(paths[0])])
        assert source == Source(str(paths[0]), "tars", (str(paths[0]),))

    def test_a_name_with_magic_characters_that_exists_is_taken_as_it_is(self, tmp_path):
        path = write(tmp_path / "t[1]{a,b}.tar", b"")
        assert uris(listing_of(path)) == [str(path)]

    def test_remote(self, memory):
        memory.pipe({"/c/1.tar": b"1", "/c/2.tar": b"22", "/c/3.txt": b""})
        for spec in ("memory://c/*.tar", "memory://c/{1..2}.tar"):
            listing = listing_of(spec)
            assert uris(listing) == ["memory:///c/1.tar", "memory:///c/2.tar"]
            assert listing.entries["size"].to_pylist() == [1, 2]

    def test_a_tar_that_disappears(self, tmp_path, memory):
        path = write(tmp_path / "t.tar", b"")
        memory.pipe("/t.tar", b"")
        sources = open_sources([str(path), "memory://t.tar"])
        path.unlink()
        memory.rm("/t.tar")
        assert [rejects(list_source(source)) for source in sources] == [
            {str(path): "missing"},
            {"memory:///t.tar": "missing"},
        ]


class TestTables:
    @pytest.mark.parametrize("extension", ["parquet", "csv", "tsv"])
    def test_rows_of_every_kind(self, tmp_path, extension, memory, monkeypatch):
        image = write(tmp_path / "a b,c.jpg", b"123")
        odd = write(tmp_path / os.fsdecode(b"caf\xe9.jpg"), b"1")
        tar = write(tmp_path / "sub/t.tar", b"1")
        rows = [
            (str(image), 99, "etag"),
            ("sub/../a b,c.jpg", 3, ""),
            ("sub/t.tar", 1, ""),
            (odd.as_uri(), 1, ""),
            ("https://host/no_extension?x=1", 7, "tag"),
            ("https://host/t.tar?x=1", -1, ""),
            ("memory://c/x.jpg", 5, "v1"),
            ("none.jpg", 1, ""),
            ("", 1, ""),
            ("t.tgz", 1, ""),
        ]
        table = tmp_path / f"table.{extension}"
        uri, size, etag = map(list, zip(*rows, strict=True))
        columns = pa.table({"caption": ["x"] * len(rows), "uri": uri, "size": size, "etag": etag})
        if extension == "parquet":
            pq.write_table(columns, table)
        else:
            separator = "," if extension == "csv" else "\t"
            lines = ["caption,uri,size,etag".replace(",", separator)]
            lines += [separator.join(["x", f'"{u}"', str(s), e]) for u, s, e in rows]
            table.write_text("\ufeff" + "\n".join(lines) + "\n")
        # This test is not about the check that the address can be read.
        monkeypatch.setattr(fsspec, "get_filesystem_class", lambda protocol: type(memory))
        listing = listing_of(table)
        odd_uri = f"file://{tmp_path}/caf%E9.jpg"
        entries = {row.pop("uri"): tuple(row.values()) for row in listing.entries.to_pylist()}
        assert entries == {
            str(image): (3, str(image.stat().st_mtime_ns), "image"),
            str(tar): (1, str(tar.stat().st_mtime_ns), "tar"),
            odd_uri: (1, str(odd.stat().st_mtime_ns), "image"),
            "https://host/no_extension?x=1": (7, "tag", "image"),
            "https://host/t.tar?x=1": (-1, "", "tar"),
            "memory://c/x.jpg": (5, "v1", "image"),
        }
        assert rejects(listing) == {
            str(tmp_path / "none.jpg"): "missing",
            f"{table}#row=8": "no_uri",
            str(tmp_path / "t.tgz"): "compressed_tar",
        }

    def test_a_table_with_nothing_but_uris(self, tmp_path):
        write(tmp_path / "two\nlines.jpg", b"")
        write(tmp_path / "null", b"")
        (tmp_path / "t.csv").write_text('uri\n"two\nlines.jpg"\nnull\nmemory://x\n')
        listing = listing_of(tmp_path / "t.csv")
        assert uris(listing) == [
            str(tmp_path / "null"),
            str(tmp_path / "two\nlines.jpg"),
            "memory://x",
        ]
        assert listing.entries["size"].to_pylist() == [0, 0, -1]

    def test_column_types_that_other_programs_write(self, tmp_path):
        names = pa.array(["memory://b", "memory://a", None])
        for i, column in enumerate([names.cast(pa.large_string()), names.dictionary_encode()]):
            table = write_table(
                tmp_path / f"{i}.parquet", uri=column, size=pa.array([1, 2, 3], pa.int32())
            )
            listing = listing_of(table)
            assert uris(listing) == ["memory://a", "memory://b"]
            assert listing.entries["size"].to_pylist() == [2, 1]
            assert list(rejects(listing).values()) == ["no_uri"]

    def test_the_row_that_is_kept_of_doubles_does_not_depend_on_their_order(self, tmp_path):
        rows = [("memory://a", "2"), ("memory://a", "1")]
        found = []
        for order in (rows, rows[::-1]):
            uri, etag = map(list, zip(*order, strict=True))
            listing = listing_of(write_table(tmp_path / "t.parquet", uri=uri, etag=etag))
            found.append(listing.entries.to_pylist())
        assert found[0] == found[1]
        assert len(found[0]) == 1

    @pytest.mark.parametrize("extension", ["parquet", "csv", "tsv"])
    @pytest.mark.parametrize("column", ["url", "URL", "image_path", "file_name", "filepath"])
    def test_the_names_that_other_tools_give_the_column(self, tmp_path, extension, column):
        # The second name reads as a number unless the column is known to be text.
        (tmp_path / "007").write_bytes(b"1")
        path = tmp_path / f"t.{extension}"
        if extension == "parquet":
            write_table(path, **{"caption": ["x"], column: ["007"]})
        else:
            separator = "\t" if extension == "tsv" else ","
            path.write_text(f"caption{separator}{column}\nx{separator}007\n")
        assert uris(listing_of(path)) == [str(tmp_path / "007")]

    def test_uri_comes_before_the_other_names(self, tmp_path):
        table = write_table(tmp_path / "t.parquet", url=["memory://b"], uri=["memory://a"])
        assert uris(listing_of(table)) == ["memory://a"]

    def test_two_columns_that_may_be_meant(self, tmp_path):
        table = write_table(tmp_path / "t.parquet", image_path=["a"], url=["memory://b"])
        with pytest.raises(CorpusError, match=r"several columns.*image_path, url.*name `uri`"):
            listing_of(table)

    @pytest.mark.parametrize("extension", ["parquet", "csv", "jsonl"])
    def test_a_column_that_the_user_names(self, tmp_path, extension):
        write(tmp_path / "a.jpg", b"1")
        path = tmp_path / f"t.{extension}"
        row = {"url": "memory://b", "Photo": "a.jpg"}
        if extension == "parquet":
            write_table(path, **{name: [value] for name, value in row.items()})
        else:
            lines = ["url,Photo\nmemory://b,a.jpg\n", json.dumps(row)]
            path.write_text(lines[extension == "jsonl"])
        assert uris(listing_of(path, uri_column="Photo")) == [str(tmp_path / "a.jpg")]
        assert uris(listing_of(path)) == ["memory://b"]
        with pytest.raises(CorpusError, match=r"no column 'photo' \(its columns are url, Photo\)"):
            listing_of(path, uri_column="photo")

    def test_relative_to_a_remote_table(self, memory):
        memory.pipe({"/c/t.csv": b"uri\nd/a.jpg\n", "/c/d/a.jpg": b"123"})
        [uri] = uris(listing_of("memory://c/t.csv"))
        assert read_bytes(uri) == b"123"

    def test_no_such_column(self, tmp_path):
        write_table(tmp_path / "t.parquet", caption=["x"], key=["y"])
        (tmp_path / "t.csv").write_text("caption,key\nx,y\n")
        for name in ("t.parquet", "t.csv"):
            with pytest.raises(CorpusError, match=r"no column `uri`.*caption, key"):
                open_sources([str(tmp_path / name)])

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("t.parquet", b"PAR1 and nothing more"),
            ("t.parquet", b""),
            ("t.csv", b""),
            ("t.csv", b"uri\n\xff\xfe\xe9.jpg\n"),
            ("t.csv", b"uri,size\na.jpg,large\n"),
            ("t.csv", b"uri,size\na.jpg\n"),
        ],
    )
    def test_damaged_tables(self, tmp_path, name, data):
        write(tmp_path / name, data)
        with pytest.raises(CorpusError, match=r"can't be read as .*write it again"):
            listing_of(tmp_path / name)

    def test_addresses_whose_package_is_missing_are_found_at_once(self, tmp_path, monkeypatch):
        def refuse(protocol):
            raise ValueError(f"{protocol} is not known")

        monkeypatch.setattr("storage.corpora.tables.fsspec.get_filesystem_class", refuse)
        table = write_table(tmp_path / "t.parquet", uri=["gs://x/a.jpg"])
        with pytest.raises(CorpusError, match="gs://"):
            listing_of(table)


class TestLists:
    def test_a_place_a_line(self, tmp_path):
        here = write(tmp_path / "a b.jpg", b"123")
        write(tmp_path / "lists/x.txt", b"")
        lines = ["# images", "", "  ../a b.jpg  ", str(here), "memory://c/1?x", "../none.jpg",
                 "../lists", "../more.tar", "s3://me:secret@b/x.jpg"]  # fmt: skip
        tar = write(tmp_path / "more.tar", tar_bytes([]))
        path = tmp_path / "lists/l.txt"
        path.write_text("\ufeff" + "\r\n".join(lines))
        listing = listing_of(path)
        assert uris(listing) == [str(here), str(tar), "memory://c/1?x"]
        assert listing.entries["kind"].to_pylist() == ["image", "tar", "image"]
        assert rejects(listing) == {
            str(tmp_path / "none.jpg"): "missing",
            str(tmp_path / "lists"): "not_a_file",
            f"{path}#line=9": "credentials_in_uri",
        }

    def test_json_lines(self, tmp_path, memory):
        memory.pipe({"/c/a.jpg": b"123"})
        rows = [{"file_name": "a.jpg", "caption": "x"}, {"file_name": None}, {"other": 1},
                {"file_name": "b.jpg", "size": 7, "etag": "v"}]  # fmt: skip
        memory.pipe("/c/l.jsonl", "\n\n".join(map(json.dumps, rows)).encode())
        listing = listing_of("memory://c/l.jsonl")
        assert listing.entries.to_pylist() == [
            {"uri": "memory:///c/a.jpg", "size": -1, "version": "", "kind": "image"},
            {"uri": "memory:///c/b.jpg", "size": 7, "version": "v", "kind": "image"},
        ]
        assert rejects(listing) == {
            "memory:///c/l.jsonl#line=3": "no_uri", "memory:///c/l.jsonl#line=5": "no_uri",
        }  # fmt: skip

    @pytest.mark.parametrize("data", [b"", b"# nothing\n\n"])
    def test_nothing_in_a_list_is_an_empty_listing(self, tmp_path, data):
        assert listing_of(write(tmp_path / "l.txt", data)).entries.num_rows == 0
        assert listing_of(write(tmp_path / "l.jsonl", data[11:])).entries.num_rows == 0

    @pytest.mark.parametrize(
        ("name", "data", "words"),
        [
            ("l.txt", jpeg(), "can't be read as UTF-8 text"),
            ("l.txt", b"a.jpg\n\0\0\0", "can't be read as UTF-8 text .see line 2"),
            ("l.txt", b"x" * 2**21, "can't be read as UTF-8 text .see line 1"),
            (
                "l.jsonl",
                b'{"uri": "a"}\n\n{"uri": ',
                r"Line 3 of .*l\.jsonl is not valid JSON \(Expecting value, character 8\)",
            ),
            ("l.jsonl", b'"a.jpg"', "Line 1 of .* is no JSON object"),
            ("l.jsonl", b'{"caption": "a"}', "no column `uri`.*its columns are caption"),
        ],
    )
    def test_an_invalid_list_has_a_clear_error(self, tmp_path, name, data, words):
        with pytest.raises(CorpusError, match=words) as caught:
            listing_of(write(tmp_path / name, data))
        assert "\n" not in str(caught.value)

    def test_a_folder_of_such_a_name(self, tmp_path):
        image = write(tmp_path / "x.txt/a.jpg", b"1")
        assert uris(listing_of(tmp_path / "x.txt")) == [str(image)]


class TestFiles:
    @pytest.mark.parametrize("place", ["local", "remote"])
    def test_images_that_a_pattern_matches(self, tmp_path, memory, place):
        corpus = tmp_path / "c"
        names = ["a.jpg", "x/b.JPG", "x/t.tar", "x/y/c.png"]
        others = [".hidden/d.jpg", "@eaDir/d.jpg", "x/.d.jpg", "n.txt", "x/y/m.json"]
        for name in (*names, *others):
            write(corpus / name, b"123")
        write(corpus / "x/b.png", palette_png())
        write(corpus / "x/b.mask.png", b"1")
        write(corpus / "x/3f", jpeg())
        root = str(corpus)
        if place == "remote":
            memory.put(root, "/c", recursive=True)
            root = "memory:///c"
        [source] = open_sources([f"{root}/**"])
        assert (source.kind, source.root) == ("files", root)
        listing = list_source(source)
        assert uris(listing) == [f"{root}/{name}" for name in sorted([*names, "x/3f"])]
        assert listing.entries["kind"].to_pylist().count("tar") == 1
        assert min(listing.entries["size"].to_pylist()) == 3
        assert {"json": 1, "label map": 2, "txt": 1}.items() <= listing.ignored.items()
        assert uris(listing_of(f"{root}/**/*.jpg")) == [f"{root}/a.jpg"]
        assert uris(listing_of(f"{root}/x/*.png")) == [f"{root}/x/b.png"]
        assert uris(listing_of(f"{root}/.hidden/*.jpg")) == [f"{root}/.hidden/d.jpg"]

    def test_links_do_not_multiply_matches(self, tmp_path):
        a = write(tmp_path / "z/a.jpg", b"1")
        (tmp_path / "z/self").symlink_to(".")
        (tmp_path / "a_link").symlink_to(tmp_path / "z")
        (tmp_path / "file.jpg").symlink_to(a)
        listing = listing_of(tmp_path / "**/*.jpg")
        assert uris(listing) == [str(tmp_path / "file.jpg"), str(a)]
        assert rejects(listing) == {
            str(tmp_path / "a_link"): "duplicate_folder",
            str(tmp_path / "z/self"): "duplicate_folder",
        }

    def test_a_pattern_that_matches_images_and_folders(self, tmp_path):
        for name in ("a.jpg", "sub/b.jpg", "notes.md"):
            write(tmp_path / name, b"1")
        files, folder = sorted(open_sources([f"{tmp_path}/*"]), key=lambda source: source.kind)
        assert (files.kind, folder.kind) == ("files", "folder")
        assert list_source(files).ignored == {"md": 1}

    def test_tables_that_a_pattern_matches_stay_sources_of_their_own(self, tmp_path):
        for name in ("1.csv", "2.csv"):
            write(tmp_path / name, b"uri\nmemory://a\n")
        assert [s.kind for s in open_sources([f"{tmp_path}/*"])] == ["table", "table"]

    def test_a_single_image(self, tmp_path, memory):
        path = write(tmp_path / "a.jpg", b"123")
        [source] = open_sources([str(path)])
        assert source == Source(str(path), "files", (str(path),))
        [entry] = list_source(source).entries.to_pylist()
        assert (entry["uri"], entry["size"], entry["kind"]) == (str(path), 3, "image")
        bare = write(tmp_path / "3f2a", jpeg())
        assert uris(listing_of(bare)) == [str(bare)]
        memory.pipe({"/c/a.jpg": b"1234"})
        assert listing_of("memory://c/a.jpg").entries["size"].to_pylist() == [4]

    def test_files_of_several_folders_together(self, tmp_path):
        paths = [write(tmp_path / name, b"1") for name in ("x/a.jpg", "x/b.jpg", "y/a.jpg")]
        specs = [*map(str, paths), str(tmp_path / "y")]
        assert uris(list_corpus(specs)) == list(map(str, paths))
        some = list_corpus(specs, Selection.of(["a.jpg"], []))
        assert uris(some) == [str(paths[0]), str(paths[2])]
        assert some.ignored == {"excluded": 1}

    def test_images_in_braces(self, tmp_path):
        paths = [write(tmp_path / name, b"1") for name in ("a.jpg", "b.jpg", "t.tar")]
        assert uris(listing_of(f"{tmp_path}/{{a.jpg,b.jpg,t.tar}}")) == list(map(str, paths))


class TestPatterns:
    @pytest.mark.parametrize("place", ["local", "remote"])
    @pytest.mark.parametrize("kind", ["folder", "pattern", "txt", "csv", "coco"])
    def test_names_are_relative_to_the_corpus(self, tmp_path, memory, place, kind):
        names = ["train/a.jpg", "train/x/b.png", "val/a.jpg", "c.jpg"]
        for name in names:
            write(tmp_path / "c" / name, b"123")
        write(tmp_path / "c/l.txt", "\n".join(f"./{name}" for name in names).encode())
        write(tmp_path / "c/l.csv", "\n".join(["uri", *names]).encode())
        document = {"images": [{"file_name": name} for name in names]}
        write(tmp_path / "c/l.json", json.dumps(document).encode())
        root = str(tmp_path / "c")
        if place == "remote":
            memory.put(root, "/c", recursive=True)
            root = "memory://c"
        specs = {"folder": "", "pattern": "/**", "txt": "/l.txt", "csv": "/l.csv",
                 "coco": "/l.json"}  # fmt: skip
        spec = root + specs[kind]
        listing = listing_of(spec, exclude=["train/*", "./c.jpg"])
        [uri] = uris(listing)
        assert uri.endswith("/c/val/a.jpg")
        assert listing.ignored["excluded"] == 3
        included = listing_of(spec, include=["train"], exclude=["*.png"])
        assert [uri.rpartition("/c/")[2] for uri in uris(included)] == ["train/a.jpg"]
        assert included.ignored["excluded"] == 3

    def test_tars_are_left_out_by_their_own_names(self, tmp_path):
        for name in ("new/1.tar", "old/2.tar"):
            write(tmp_path / name, tar_bytes([]))
        for spec in (tmp_path, tmp_path / "*/*.tar"):
            listing = listing_of(spec, include=["*.jpg"], exclude=["old"])
            assert uris(listing) == [str(tmp_path / "new/1.tar")]

    def test_label_maps_stay_label_maps_without_their_photographs(self, tmp_path):
        write(tmp_path / "a.jpg", b"1")
        write(tmp_path / "a.png", palette_png())
        assert listing_of(tmp_path, exclude=["*.jpg"]).ignored == {"excluded": 1, "label map": 1}


class TestCoco:
    @pytest.mark.parametrize("place", ["local", "remote"])
    def test_hidden_images_that_the_file_names(self, tmp_path, memory, place):
        self.write_json(tmp_path / "c/x.json", [".shots/a.jpg"])
        write(tmp_path / "c/.shots/a.jpg", b"123")
        root = str(tmp_path / "c")
        if place == "remote":
            memory.put(root, "/c", recursive=True)
            root = "memory:///c"
        assert uris(listing_of(f"{root}/x.json")) == [f"{root}/.shots/a.jpg"]

    def write_json(self, path: Path, names: list[object]) -> Path:
        document = {
            "info": {"images": "none"},
            "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
            "annotations": [{"id": 1, "segmentation": {"counts": [1, 2], "size": [3, 4]}}],
        }
        return write(path, json.dumps(document).encode())

    @pytest.mark.parametrize(
        ("json_path", "folder"),
        [
            ("x.json", "."),
            ("x.json", "images"),
            ("annotations/x.json", "."),
            ("annotations/x.json", "images"),
            ("annotations/instances_train2017.json", "train2017"),
            ("annotations/instances_train2017.json", "images/train2017"),
        ],
    )
    @pytest.mark.parametrize("place", ["local", "remote"])
    def test_where_images_are_looked_for(self, tmp_path, memory, json_path, folder, place):
        names = ["sub/b.jpg", "a.jpg", "gone.jpg", None, "a.jpg"]
        path = self.write_json(tmp_path / "c" / json_path, names)
        for name in ("sub/b.jpg", "a.jpg", "not_named.jpg"):
            write(tmp_path / "c" / folder / name, b"123")
        root = str(tmp_path / "c")
        if place == "remote":
            memory.put(root, "/c", recursive=True)
            root = "memory:///c"
        listing = listing_of(f"{root}/{json_path}")
        base = os.path.normpath(f"/{folder}").rstrip("/")
        assert uris(listing) == [f"{root}{base}/a.jpg", f"{root}{base}/sub/b.jpg"]
        assert listing.entries["size"].to_pylist() == [3, 3]
        assert rejects(listing) == {
            f"{root}{base}/gone.jpg": "missing",
            f"{root}/{json_path}#images[3]": "no_uri",
        }
        assert path.exists()

    def test_a_first_image_that_is_missing_does_not_hide_the_others(self, tmp_path):
        path = self.write_json(tmp_path / "x.json", ["gone.jpg", "a.jpg"])
        write(tmp_path / "images/a.jpg", b"")
        assert uris(listing_of(path)) == [str(tmp_path / "images/a.jpg")]

    def test_images_that_are_nowhere(self, tmp_path):
        path = self.write_json(tmp_path / "d/x.json", ["a.jpg"])
        with pytest.raises(CorpusError) as caught:
            listing_of(path)
        for place in (tmp_path / "d", tmp_path / "d/images", tmp_path, tmp_path / "images"):
            assert f"{place}" in str(caught.value)
        assert "a.jpg" in str(caught.value)

    def test_no_images_are_an_empty_listing(self, tmp_path):
        assert listing_of(self.write_json(tmp_path / "x.json", [])).entries.num_rows == 0

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"{", "not valid JSON"),
            (b"", "not valid JSON"),
            (b"\xff", "not valid JSON"),
            (b"[" * 100_000, "not valid JSON"),
            (b"[]", "no list `images`"),
            (b'{"images": {"a": 1}}', "no list `images`"),
            (b'{"file_name": "x"}', "no list `images`"),
        ],
    )
    def test_invalid_coco_files(self, tmp_path, data, words):
        write(tmp_path / "x.json", data)
        with pytest.raises(CorpusError, match=words):
            listing_of(tmp_path / "x.json")


class TestSpecs:
    def test_order_and_repetition_do_not_matter(self, tmp_path, monkeypatch):
        write(tmp_path / "a/1.tar", b"")
        write(tmp_path / "b/2.jpg", b"")
        monkeypatch.chdir(tmp_path)
        specs = [str(tmp_path / "b"), "a/1.tar", "b/", f"file://{tmp_path}/b", "a/*.tar"]
        expected = [("folder", (str(tmp_path / "b"),)), ("tars", (str(tmp_path / "a/1.tar"),))]
        for order in (specs, specs[::-1]):
            assert [(s.kind, s.uris) for s in open_sources(order)] == expected
        assert open_sources(specs) == open_sources(specs[::-1])
        assert open_sources([]) == []

    def test_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "photos").mkdir()
        assert open_sources(["~/photos"])[0].uris == (str(tmp_path / "photos"),)

    def test_a_glob_may_match_several_kinds(self, tmp_path):
        for name in ("d1", "d2"):
            (tmp_path / name).mkdir()
        write(tmp_path / "d3.tar", b"")
        kinds = [source.kind for source in open_sources([str(tmp_path / "d*")])]
        assert kinds == ["folder", "folder", "tars"]

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("none", "does not exist"),
            ("none/a.tar", "does not exist"),
            ("a.md/x", "does not exist"),
            ("*.tar", "Nothing matches"),
            ("t{0..1}.tar", "t1.tar does not exist"),
            ("memory://none", "does not exist"),
            ("memory://none/*.tar", "Nothing matches"),
            ("a.md", "A corpus is a folder, an image.*a.md is none of these"),
            ("**/*.jpg", "Nothing matches"),
            ("a.tar.gz", "compressed.*decompress it"),
            ("a.tgz", "compressed.*decompress it"),
            ("", "is empty"),
            ("un{balanced", "does not exist"),
        ],
    )
    def test_unusable_corpora_have_clear_errors(self, tmp_path, monkeypatch, memory, spec, words):
        for name in ("a.md", "a.tar.gz", "a.tgz", "t0.tar"):
            write(tmp_path / name, b"x")
        monkeypatch.chdir(tmp_path)
        if spec == "*.tar":
            (tmp_path / "t0.tar").unlink()
        with pytest.raises(CorpusError, match=words) as caught:
            open_sources([spec])
        assert "\n" not in str(caught.value)

    def test_a_file_system_without_its_package(self):
        with pytest.raises(StorageError, match="nonsense"):
            open_sources(["nonsense://bucket/x"])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_a_million_rows_stay_small(tmp_path):
    program = textwrap.dedent(
        """
        import sys
        import pyarrow as pa, pyarrow.parquet as pq
        from storage.corpora.corpus import list_source, open_sources
        n = 1_000_000
        path = sys.argv[1]
        with pq.ParquetWriter(path, pa.schema({"uri": pa.string()})) as writer:
            for start in range(0, n, 50_000):
                rows = range(start, start + 50_000)
                names = [f"memory://bucket/folder/{i * 7919 % n:012}.jpg" for i in rows]
                writer.write_table(pa.table({"uri": names}))
        [source] = open_sources([path])
        listing = list_source(source)
        assert listing.entries.num_rows == n
        # Not ru_maxrss: that starts from the peak of the process that started this one.
        status = dict(line.split(":") for line in open("/proc/self/status"))
        print(int(status["VmHWM"].split()[0]) // 1024)
        """
    )
    table = tmp_path / "t.parquet"
    command = [sys.executable, "-c", program, str(table)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 800  # MiB, the interpreter and its libraries among them


@pytest.mark.parametrize(
    "braces", ["{1..99999999999999}", "{1.." + "9" * 5_000 + "}", "{-5..2000000..2}"]
)
def test_braces_that_stand_for_no_end_of_names(tmp_path, braces):
    with pytest.raises(CorpusError, match="expand to more than 1,000,000 names; name a folder"):
        open_sources([f"{tmp_path}/{braces}.jpg"])


def test_many_short_braces_that_stand_for_no_end_of_names(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "storage.corpora.corpus._MOST_EXPANDED", 1_000
    )  # names are counted one by one
    with pytest.raises(CorpusError, match="expand to more than 1,000 names; name a folder"):
        open_sources([f"{tmp_path}/{'{a,b}' * 40}.jpg"])


def test_braces_in_one_another_without_end_are_a_name(tmp_path):
    with pytest.raises(CorpusError, match="does not exist"):
        open_sources([f"{tmp_path}/" + "{" * 2_000 + "a,b" + "}" * 2_000])
