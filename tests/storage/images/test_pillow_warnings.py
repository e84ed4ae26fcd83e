"""Warnings of Pillow and libtiff: recorded for the image, in its thread, and not printed."""

from __future__ import annotations

import io
import logging
import struct
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image, TiffImagePlugin

from storage.errors.exceptions import ImageRejected
from storage.errors.reject_reasons import DAMAGED_METADATA, IMAGE_WARNINGS, ODD_FILE
from storage.images import libtiff_messages
from storage.images.decoding import decode
from storage.images.pillow_warnings import noted_warnings
from tests.support.files.bad_images import encoded, jpeg, noisy_image


def exif(entry: bytes) -> bytes:
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)


OUTSIDE = exif(struct.pack("<HHII", 0x9286, 2, 5000, 60_000))


def odd_png() -> bytes:
    """A file whose header states an animation without frames."""
    content = struct.pack(">II", 0, 0)
    chunk = (
        struct.pack(">I", 8) + b"acTL" + content + struct.pack(">I", zlib.crc32(b"acTL" + content))
    )
    png = encoded(noisy_image(), "PNG")
    start = png.index(b"IDAT") - 4
    return png[:start] + chunk + png[start:]


def damaged_fax() -> bytes:
    """A damaged file, which libtiff reads in part."""
    data = bytearray(encoded(noisy_image().convert("1"), "TIFF", compression="group4"))
    for place in range(20, 300, 7):
        data[place] ^= 0x5A
    return bytes(data)


def tiff_with_a_tag_too_large() -> bytes:
    data = bytearray(encoded(noisy_image(), "TIFF", tiffinfo={270: "a description, long enough"}))
    place = bytes(data).find(struct.pack("<HH", 270, 2))
    data[place + 4 : place + 8] = struct.pack("<I", 10**6)
    return bytes(data)


def damaged_lzw() -> bytes:
    data = bytearray(encoded(noisy_image(), "TIFF", compression="tiff_lzw"))
    for place in range(20, 300, 7):
        data[place] ^= 0x5A
    return bytes(data)


ODD = {
    "EXIF outside": (lambda: encoded(noisy_image(), "JPEG", exif=OUTSIDE), DAMAGED_METADATA),
    "EXIF cut": (
        lambda: encoded(noisy_image(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
        DAMAGED_METADATA,
    ),
    "EXIF of a PNG": (lambda: encoded(noisy_image(), "PNG", exif=OUTSIDE[6:]), DAMAGED_METADATA),
    "EXIF of a WebP": (lambda: encoded(noisy_image(), "WEBP", exif=OUTSIDE), DAMAGED_METADATA),
    "tag of a TIFF": (tiff_with_a_tag_too_large, DAMAGED_METADATA),
    "animation": (odd_png, ODD_FILE),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_read_noted_and_nothing_is_printed(name, capfd):
    make, word = ODD[name]
    data = make()
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor is the image rejected
        decoded = decode(data)
    assert decoded.warnings == (word,)
    assert decoded.image.size == (48, 32)
    assert capfd.readouterr() == ("", "")


def test_good_files_have_nothing_odd():
    assert decode(jpeg()).warnings == ()
    assert decode(encoded(noisy_image(), "TIFF", compression="tiff_lzw")).warnings == ()


@pytest.mark.skipif(sys.platform != "linux", reason="libtiff is looked for as on Linux")
def test_libtiffs_messages_are_recorded_and_not_printed(capfd):
    assert libtiff_messages._kept, "Pillow's libtiff was found"
    assert decode(damaged_fax()).warnings == (ODD_FILE,)
    with pytest.raises(ImageRejected, match="corrupt"):
        decode(damaged_lzw())
    assert capfd.readouterr() == ("", "")


def test_pillows_log_messages_are_recorded_too(capfd):
    data = bytearray(encoded(noisy_image(), "TIFF"))
    place = bytes(data).find(struct.pack("<HHI", 277, 3, 1))
    data[place + 8 : place + 10] = struct.pack("<H", 9)
    with pytest.raises(ImageRejected):
        decode(bytes(data))  # "More samples per pixel than can be decoded"
    assert capfd.readouterr() == ("", "")


def test_threads_note_for_their_own_images():
    files = [jpeg(), odd_png(), encoded(noisy_image(), "JPEG", exif=OUTSIDE)] * 40
    expected = [(), (ODD_FILE,), (DAMAGED_METADATA,)] * 40
    with ThreadPoolExecutor(8) as pool:
        assert [decoded.warnings for decoded in pool.map(decode, files)] == expected


def test_elsewhere_pillow_warns_as_ever(monkeypatch):
    data = encoded(noisy_image(), "JPEG", exif=OUTSIDE)
    with pytest.warns(UserWarning, match="Tag data larger than file"):
        Image.open(io.BytesIO(data)).getexif()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(jpeg()))
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    log = logging.getLogger(TiffImagePlugin.__name__)
    log.addHandler(handler)
    try:
        log.error("seen")
        with noted_warnings() as words:
            log.error("noted")
            other = threading.Thread(target=log.error, args=["seen, too"])
            other.start()
            other.join()
        assert words == {DAMAGED_METADATA}
    finally:
        log.removeHandler(handler)
    assert [record.getMessage() for record in records] == ["seen", "seen, too"]


def test_words_are_explained():
    assert set(IMAGE_WARNINGS) == {DAMAGED_METADATA, ODD_FILE}
