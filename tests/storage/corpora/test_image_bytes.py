from __future__ import annotations

import io
import os
import random
import tarfile
from collections import Counter

import fsspec
import pytest

from storage.corpora import image_bytes
from storage.corpora.image_bytes import ImageBytes, iter_entry, read_image_bytes
from storage.errors.exceptions import ImageRejected, StorageError
from storage.errors.reject_reasons import REJECT_REASONS
from storage.web import requests
from tests.support.files.bad_images import (
    HTML,
    encoded,
    jpeg,
    noisy_image,
    palette_png,
    tar_bytes,
    write,
)
from tests.support.servers.bad_server import bad_server, hurried
from tests.support.servers.loopback import unreachable_url

MEMBERS = [("0001.jpg", jpeg(1)), ("0001.txt", b"a caption"), ("0001.json", b"{}"),
           ("0002.PNG", jpeg(2)), ("sub/0003.jpg", jpeg(3))]  # fmt: skip


def in_tar(path, data: bytes) -> list[ImageBytes]:
    return list(iter_entry(str(write(path, data)), "tar"))


def reasons(items: list[ImageBytes]) -> list[str | None]:
    for item in items:
        assert (item.data is None) == (item.reject_reason is not None)
        assert item.reject_reason is None or item.reject_reason in REJECT_REASONS
    return [item.reject_reason for item in items]


def rejection(call) -> str:
    with pytest.raises(ImageRejected) as caught:
        call()
    return caught.value.reason


def test_a_whole_file(tmp_path):
    uri = str(write(tmp_path / "a.jpg", jpeg()))
    assert list(iter_entry(uri, "image")) == [ImageBytes(uri, -1, len(jpeg()), jpeg(), None)]
    assert read_image_bytes(uri, -1, len(jpeg())) == jpeg()
    assert read_image_bytes(uri, -1, -1) == jpeg()


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
@pytest.mark.parametrize("place", ["local", "memory"])
def test_members_and_their_ranges(tmp_path, place, tar_format):
    long_name = "/".join(["folder" * 5] * 5) + "/ü.jpg"
    members = MEMBERS if tar_format == tarfile.USTAR_FORMAT else [*MEMBERS, (long_name, jpeg(4))]
    data = tar_bytes(members, tar_format)
    if place == "local":
        uri = str(write(tmp_path / "t.tar", data))
    else:
        uri = "memory://image_bytes/t.tar"
        fsspec.filesystem("memory").pipe(uri, data)
    items = list(iter_entry(uri, "tar"))
    images = [(name, content) for name, content in members if not name.endswith(("txt", "json"))]
    assert [(item.member, item.data) for item in items] == images
    for item in items:
        assert (item.uri, item.reject_reason) == (uri, None)
        assert data[item.offset : item.offset + item.length] == item.data
        assert read_image_bytes(uri, item.offset, item.length) == item.data


def by_member(items: list[ImageBytes]) -> dict[str, str | None]:
    assert len({item.member for item in items}) == len(items)
    return {item.member: item.reject_reason for item in items}


def test_label_maps_and_hidden_members_of_a_tar_are_rejected(tmp_path):
    names = ["a.jpg", "a.mask.png", "alone.mask.png", "SegmentationClass/a.png", "x/._a.jpg",
             "__MACOSX/b.jpg", "./c.jpg"]  # fmt: skip
    items = in_tar(tmp_path / "t.tar", tar_bytes([(name, jpeg()) for name in names]))
    reasons = [None, "label_map", None, "label_map", "hidden_member", "hidden_member", None]
    assert by_member(items) == dict(zip(names, reasons, strict=True))


@pytest.mark.parametrize("order", [1, -1])
def test_label_maps_are_found_in_any_order_of_members(tmp_path, order):
    map_bytes, drawing = palette_png(), palette_png(seed=1)
    photographs = ["a.jpg", "b.Jpg", "set/images/1/c.jpg", "d.jpg", "d.webp", "e.gif"]
    label_maps = ["a.mask.png", "b.Mask.PNG", "a.png", "set/labels/1/c.png"]
    drawings = ["e.png", "alone.png", "set/other/1/c.png", "lone.mask.png"]
    members = [(name, jpeg(i)) for i, name in enumerate(photographs)]
    members += [("d.png", encoded(noisy_image(), "PNG"))]  # a photograph saved twice
    members += [(name, map_bytes) for name in label_maps]
    members += [(name, drawing) for name in drawings]
    items = in_tar(tmp_path / "t.tar", tar_bytes(members[::order]))
    expected = dict.fromkeys(name for name, _ in members) | dict.fromkeys(label_maps, "label_map")
    assert by_member(items) == expected
    data = dict(members)
    for item in items:
        if item.data is not None:
            assert item.data == data[item.member]
            assert read_image_bytes(item.uri, item.offset, item.length) == item.data


def test_label_maps_of_a_cut_tar_are_found_too(tmp_path):
    data = tar_bytes([("a.mask.png", palette_png()), ("b.png", palette_png()), ("a.jpg", jpeg()),
                      ("z.jpg", jpeg(1))])  # fmt: skip
    items = in_tar(tmp_path / "t.tar", data[: data.rindex(b"z.jpg") + 700])
    assert by_member(items) == {
        "a.jpg": None, "z.jpg": "truncated_tar", "a.mask.png": "label_map", "b.png": None,
    }  # fmt: skip


@pytest.mark.parametrize("between", [b"", bytes(512), bytes(2**20)], ids=len)
@pytest.mark.parametrize("place", ["local", "memory"])
def test_tars_that_are_written_end_to_end_are_read_to_the_last(tmp_path, place, between):
    tars = [tar_bytes([(f"{n}.jpg", jpeg(n)), (f"{n}.txt", b"x"), ("same.jpg", jpeg(10 + n))])
            for n in range(3)]  # fmt: skip
    data = between.join(tars)
    uri = str(write(tmp_path / "t.tar", data))
    if place == "memory":
        uri = "memory://image_bytes/end_to_end.tar"
        fsspec.filesystem("memory").pipe(uri, data)
    others = Counter[str]()
    items = list(iter_entry(uri, "tar", others=others))
    assert reasons(items) == [None] * 6
    assert [item.member for item in items[::2]] == ["0.jpg", "1.jpg", "2.jpg"]
    assert [item.data for item in items] == [jpeg(n + of) for n in range(3) for of in (0, 10)]
    assert others == {"txt": 3}
    for item in items:  # also by their offsets
        assert read_image_bytes(uri, item.offset, item.length) == item.data


def test_a_photograph_and_its_label_map_may_be_in_two_tars_written_end_to_end(tmp_path):
    data = tar_bytes([("a.png", palette_png())]) + tar_bytes([("a.jpg", jpeg())])
    assert by_member(in_tar(tmp_path / "t.tar", data)) == {"a.jpg": None, "a.png": "label_map"}


def test_attributes_of_all_of_a_tar_end_with_it(tmp_path):
    first = io.BytesIO()
    attributes = {"path": "of-the-first.jpg"}
    with tarfile.open(
        fileobj=first, mode="w", format=tarfile.PAX_FORMAT, pax_headers=attributes
    ) as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size = len(jpeg())
        tar.addfile(info, io.BytesIO(jpeg()))
    items = in_tar(tmp_path / "t.tar", first.getvalue() + tar_bytes([("b.jpg", jpeg(1))]))
    assert [item.member for item in items] == ["of-the-first.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "tail", [b"x", b"x" * 512, HTML, jpeg(), tar_bytes([("b.jpg", jpeg(1))])[:200]]
)
def test_other_data_behind_a_tar_is_reported(tmp_path, tail):
    items = in_tar(tmp_path / "t.tar", tar_bytes([("a.jpg", jpeg())]) + tail)
    assert reasons(items) == [None, "truncated_tar"]


def test_a_cut_or_damaged_second_tar_is_reported(tmp_path):
    first, second = (tar_bytes([(f"{n}{i}.jpg", jpeg(i)) for i in range(3)]) for n in "ab")
    cut = in_tar(tmp_path / "cut.tar", first + second[: second.rindex(b"b2.jpg") + 700])
    assert [item.member for item in cut if item.data] == ["a0.jpg", "a1.jpg", "a2.jpg", "b0.jpg",
                                                          "b1.jpg"]  # fmt: skip
    assert reasons(cut)[-1] == "truncated_tar"
    damaged = bytearray(second)
    damaged[second.rindex(b"b1.jpg")] ^= 1
    bad = in_tar(tmp_path / "bad.tar", first + damaged)
    assert reasons(bad) == [None] * 4 + ["truncated_tar"]


def test_other_members_are_counted_and_those_without_extension_looked_into(tmp_path):
    members = [("1.jpg", jpeg()), ("1.json", b"{}"), ("1.txt", b"x"), ("2.TXT", b"x"), ("2", b"x"),
               ("deep/3f2a", jpeg(1)), ("empty", b""), ("x.jpg_large", jpeg(2)), ("5.cls", b"1"),
               (".DS_Store", b"x"), ("__MACOSX/1.txt", b"x")]  # fmt: skip
    path = write(tmp_path / "t.tar", tar_bytes(members))
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("link.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "1.jpg"
        tar.addfile(info)
    others = Counter[str]()
    items = list(iter_entry(str(path), "tar", others=others))
    assert by_member(items) == {"1.jpg": None, "deep/3f2a": None}
    assert others == {
        "json": 1, "txt": 2, "": 2, "jpg_large": 1, "cls": 1, "hidden file": 2, "link": 1,
    }  # fmt: skip


def test_a_tar_is_read_once_from_front_to_back(tmp_path, monkeypatch):
    path = write(tmp_path / "t.tar", tar_bytes([(f"{i}.jpg", jpeg(i)) for i in range(20)]))
    read = 0

    class Counting(io.FileIO):
        def read(self, size=-1):
            nonlocal read
            data = super().read(size)
            read += len(data)
            return data

    monkeypatch.setattr(image_bytes, "open_binary", Counting)
    assert len(list(iter_entry(str(path), "tar"))) == 20
    assert read <= path.stat().st_size


def test_links_folders_and_devices_are_no_images(tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind in [
            ("d.jpg", tarfile.DIRTYPE),
            ("s.jpg", tarfile.SYMTYPE),
            ("h.jpg", tarfile.LNKTYPE),
            ("p.jpg", tarfile.FIFOTYPE),
            ("c.jpg", tarfile.CHRTYPE),
            ("b.jpg", tarfile.BLKTYPE),
            ("unknown.jpg", b"Y"),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../../etc/passwd"
            tar.addfile(info)
    path, others = write(tmp_path / "t.tar", file.getvalue()), Counter[str]()
    assert list(iter_entry(str(path), "tar", others=others)) == []
    assert others == {"link": 2, "pipe or device": 4}


def test_sparse_members_are_not_one_range_of_bytes(tmp_path):
    info = tarfile.TarInfo("a.jpg")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 4
    data = info.tobuf(tarfile.GNU_FORMAT) + b"data".ljust(512, b"\0") + bytes(1024)
    assert reasons(in_tar(tmp_path / "t.tar", data)) == ["unreadable"]


def test_a_tar_that_is_cut_while_it_is_read(tmp_path):
    data = tar_bytes([(f"{i}.jpg", bytes([i]) * 100_000) for i in range(1, 4)])
    path = write(tmp_path / "t.tar", data)
    items = iter_entry(str(path), "tar")
    assert next(items).data == b"\1" * 100_000
    os.truncate(path, 150_000)
    assert reasons(list(items)) == ["changed", "truncated_tar"]


def test_bad_members_are_rejected_and_the_others_kept(tmp_path):
    items = in_tar(
        tmp_path / "t.tar",
        tar_bytes(
            [
                ("/etc/a.jpg", jpeg()),
                ("../a.jpg", jpeg()),
                ("a/../../b.jpg", jpeg()),
                ("good.jpg", jpeg()),
                ("good.jpg", jpeg(1)),
                ("./good.jpg", jpeg(2)),
                ("empty.jpg", b""),
                ("..good.jpg", jpeg(3)),
            ]
        ),
    )
    assert reasons(items) == [
        *["unsafe_member_name"] * 3,
        None,
        *["duplicate_member"] * 2,
        "empty_file",
        "hidden_member",  # and not unsafe: its target does not exist
    ]
    assert items[3].data == jpeg()
    assert items[0].member == "/etc/a.jpg"


def test_member_names_that_are_not_utf8(tmp_path):
    info = tarfile.TarInfo("x.jpg")
    info.size = 4
    header = info.tobuf(tarfile.USTAR_FORMAT).replace(b"x.jpg", b"\xe9.jpg")
    checksum = sum(header[:148]) + 256 + sum(header[156:])
    header = header[:148] + b"%06o\0 " % checksum + header[156:]
    [item] = in_tar(tmp_path / "t.tar", header + b"data".ljust(512, b"\0") + bytes(1024))
    assert (item.member, item.data) == ("\\udce9.jpg", b"data")
    item.member.encode("utf-8")


@pytest.mark.parametrize("cut", [512 + 100, 512 + 512])
def test_a_tar_cut_within_a_member(tmp_path, cut):
    data = tar_bytes([("a.jpg", jpeg(1)), ("b.jpg", jpeg(2)), ("c.jpg", jpeg(3))])
    whole = in_tar(tmp_path / "whole.tar", data)
    cut_items = in_tar(tmp_path / "cut.tar", data[: whole[1].offset - 512 + cut])
    assert reasons(cut_items) == [None, "truncated_tar"]
    assert cut_items[0].data == jpeg(1)
    assert (cut_items[1].member, cut_items[1].offset) == ("b.jpg", whole[1].offset)


def test_a_tar_cut_between_or_within_headers(tmp_path):
    data = tar_bytes([("a.jpg", jpeg(1)), ("b.jpg", jpeg(2))], tarfile.USTAR_FORMAT)
    second = in_tar(tmp_path / "whole.tar", data)[1].offset - 512
    for end in (second, second + 100, second + 512):
        items = in_tar(tmp_path / f"{end}.tar", data[:end])
        assert reasons(items) == [None, "truncated_tar"]
    # Only the end mark is missing: all images are read, and a warning is recorded.
    whole_members = second + 512 + (len(jpeg(2)) + 511) // 512 * 512
    items = in_tar(tmp_path / "unmarked.tar", data[:whole_members])
    assert reasons(items) == [None, None, "truncated_tar"]


def test_a_tar_cut_within_something_that_is_no_image(tmp_path):
    data = tar_bytes([("a.jpg", jpeg(1)), ("b.txt", b"x" * 5000)])
    start = data.index(b"x" * 5000)
    assert reasons(in_tar(tmp_path / "t.tar", data[: start + 700])) == [None, "truncated_tar"]


def test_a_tar_damaged_midway(tmp_path):
    data = bytearray(tar_bytes([("a.jpg", jpeg(1)), ("b.jpg", jpeg(2)), ("c.jpg", jpeg(3))]))
    second = in_tar(tmp_path / "whole.tar", bytes(data))[1].offset - 512
    data[second : second + 512] = b"\xff" * 512
    assert reasons(in_tar(tmp_path / "t.tar", bytes(data))) == [None, "truncated_tar"]


def test_sizes_that_would_loop_or_fill_the_memory(tmp_path):
    def header(size: bytes, kind: bytes) -> bytes:
        raw = bytearray(tarfile.TarInfo("b.jpg").tobuf(tarfile.GNU_FORMAT))
        raw[124:136], raw[156:157] = size, kind
        raw[148:156] = b" " * 8
        raw[148:156] = b"%06o\0 " % sum(raw)
        return bytes(raw)

    first = tar_bytes([("a.jpg", jpeg())], tarfile.GNU_FORMAT)
    first = first[: 512 + (len(jpeg()) + 511) // 512 * 512]
    negative = b"\xff" * 11 + b"\x00"
    huge = b"\x80" + b"\x7f" * 11
    for size, kind in [
        (negative, b"0"),
        (negative, b"x"),
        (huge, b"0"),
        (huge, b"L"),
        (huge, b"x"),
    ]:
        items = in_tar(tmp_path / "t.tar", first + header(size, kind) + bytes(2048))
        assert reasons(items) == [None, "truncated_tar"]
    # An image whose stated size exceeds the file: it is too large, and no image follows.
    petabyte = b"\x80" + (2**50).to_bytes(11, "big")
    items = in_tar(tmp_path / "t.tar", first + header(petabyte, b"0") + bytes(2048))
    assert reasons(items) == [None, "file_too_large", "truncated_tar"]


def test_random_damage_to_a_tar_raises_nothing(tmp_path):
    rng = random.Random("tar")
    whole = tar_bytes(MEMBERS)
    bad = 0
    for _ in range(200):
        data = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.4 else whole)
        for _ in range(rng.randrange(1, 8)):
            if data:
                data[rng.randrange(min(len(data), 4096))] = rng.randrange(256)
        found = reasons(in_tar(tmp_path / "t.tar", bytes(data)))
        bad += any(found)
    assert bad > 50


@pytest.mark.parametrize("data", [HTML * 20, HTML, b"\x1f\x8b" + bytes(600)])
def test_not_a_tar(tmp_path, data):
    [item] = in_tar(tmp_path / "t.tar", data)
    assert (item.reject_reason, item.offset, item.member) == ("not_a_tar", -1, "")


def test_empty_tars(tmp_path):
    assert reasons(in_tar(tmp_path / "no_bytes.tar", b"")) == ["empty_file"]
    assert reasons(in_tar(tmp_path / "no_members.tar", bytes(10240))) == []


def test_whole_files_that_are_bad(tmp_path):
    empty = write(tmp_path / "e.jpg", b"")
    pipe = tmp_path / "p.jpg"
    os.mkfifo(pipe)
    for path, reason in [
        (empty, "empty_file"),
        (tmp_path / "none.jpg", "missing"),
        (pipe, "not_a_file"),
        (tmp_path, "not_a_file"),
    ]:
        assert reasons(list(iter_entry(str(path), "image"))) == [reason]
    assert reasons(list(iter_entry(str(tmp_path / "none.tar"), "tar"))) == ["missing"]
    assert reasons(list(iter_entry(str(pipe), "tar"))) == ["not_a_file"]


def test_large_files_are_not_read(tmp_path, monkeypatch):
    uri = str(write(tmp_path / "a.jpg", jpeg()))
    remote = "memory://image_bytes/large.jpg"
    fsspec.filesystem("memory").pipe(remote, jpeg())
    tar = write(tmp_path / "t.tar", tar_bytes([("a.jpg", jpeg()), ("b.jpg", b"small")]))
    items = list(iter_entry(str(tar), "tar", max_bytes=100))
    assert reasons(items) == ["file_too_large", None]

    def refuse(uri):
        raise AssertionError("it was read")

    monkeypatch.setattr(image_bytes, "read_bytes", refuse)
    for place in (uri, remote):
        [item] = iter_entry(place, "image", max_bytes=100)
        assert (item.reject_reason, item.length) == ("file_too_large", len(jpeg()))
    [item] = iter_entry(remote, "image", size=101, max_bytes=100)
    assert (item.reject_reason, item.length) == ("file_too_large", 101)


def test_unreadable(tmp_path, monkeypatch):
    uri = str(write(tmp_path / "a.jpg", jpeg()))

    def refuse(*args, **kwargs):
        raise PermissionError(13, "denied")

    monkeypatch.setattr("builtins.open", refuse)  # the tests may run as root
    assert reasons(list(iter_entry(uri, "image"))) == ["unreadable"]
    assert reasons(list(iter_entry(uri, "tar"))) == ["unreadable"]
    assert rejection(lambda: read_image_bytes(uri, 0, 5)) == "unreadable"


def test_read_again_after_a_change(tmp_path):
    path = write(tmp_path / "t.tar", tar_bytes(MEMBERS))
    item = list(iter_entry(str(path), "tar"))[-1]
    path.write_bytes(path.read_bytes()[: item.offset + 10])
    assert rejection(lambda: read_image_bytes(item.uri, item.offset, item.length)) == "changed"
    image = write(tmp_path / "a.jpg", jpeg())
    assert rejection(lambda: read_image_bytes(str(image), -1, 5)) == "changed"
    image.unlink()
    assert rejection(lambda: read_image_bytes(str(image), -1, 5)) == "missing"


def test_an_object_store_that_is_down_stops_the_run(monkeypatch):
    def down(self, path, **kwargs):
        raise ConnectionRefusedError("refused")

    uri = "memory://image_bytes/x.jpg"
    fsspec.filesystem("memory").pipe(uri, jpeg())
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", down)
    with pytest.raises(StorageError, match="no connection"):
        list(iter_entry(uri, "image"))
    with pytest.raises(StorageError, match="no connection"):
        read_image_bytes(uri, -1, -1)


def test_a_web_server_that_is_down_costs_its_image_only(monkeypatch):
    with hurried(monkeypatch):
        uri = unreachable_url("/a.jpg")
        assert reasons(list(iter_entry(uri, "image"))) == ["connection_lost"]
        assert reasons(list(iter_entry(uri, "tar"))) == ["connection_lost"]
        assert rejection(lambda: read_image_bytes(uri, -1, -1)) == "connection_lost"


def test_a_failing_web_server_ends_a_tar_after_the_images_read(monkeypatch):
    members = [(f"{n}.jpg", jpeg(n)) for n in range(20)]
    data = tar_bytes(members)
    monkeypatch.setattr(requests, "_BUFFER_BYTES", 8192)
    with hurried(monkeypatch), bad_server() as server:
        server.scripts["/t.tar"] = [data, data, data, 503]
        items = list(iter_entry(server.url("/t.tar"), "tar"))
        assert 0 < len(items) < 20
        assert reasons(items) == [None] * (len(items) - 1) + ["server_error"]
        server.scripts["/t.tar"] = [data, 503, data]  # which is temporary
        again = list(iter_entry(server.url("/t.tar"), "tar"))
    assert [(item.member, item.data) for item in again] == members


def test_a_missing_package_stops_the_run():
    with pytest.raises(StorageError, match="nonsense"):
        list(iter_entry("nonsense://x/a.jpg", "image"))
