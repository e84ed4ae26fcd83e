from __future__ import annotations

import io
import random
import struct
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile

from storage.errors import reject_reasons
from storage.errors.exceptions import ImageRejected
from storage.images.decoding import HEAD_BYTES, REJECT_REASONS, decode, looks_like_image
from tests.support.files.bad_images import (
    HTML,
    animated_gif,
    encoded,
    jpeg,
    noisy_image,
    oriented,
    png,
)


def reason_of(data: bytes, **options: object) -> str:
    with pytest.raises(ImageRejected) as caught:
        decode(data, **options)
    assert caught.value.reason in REJECT_REASONS
    return caught.value.reason


def pixels(data: bytes, **options: object) -> np.ndarray:
    return np.asarray(decode(data, **options).image)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
        ("AVIF", {"quality": 95}),
        ("JPEG2000", {}),
    ],
)
def test_every_format_comes_out_as_rgb(file_format, options):
    decoded = decode(encoded(noisy_image(), file_format, **options))
    assert (decoded.format, decoded.conversion) == (file_format, "")
    assert (decoded.height, decoded.width) == (32, 48)
    assert (decoded.image.mode, decoded.image.size) == ("RGB", (48, 32))
    difference = np.asarray(decoded.image).astype(int) - np.asarray(noisy_image())
    assert np.abs(difference).mean() < 12


@pytest.mark.parametrize("mode", ["L", "1"])
def test_greys_become_rgb_without_counting_as_unusual(mode):
    data = encoded(Image.new(mode, (20, 20), 255), "PNG")
    assert decode(data, unusual="reject").conversion == ""
    assert (pixels(data) == 255).all()


def test_mpo_of_phones_is_a_plain_jpeg():
    data = encoded(noisy_image(), "MPO", save_all=True, append_images=[noisy_image(seed=1)])
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.n_frames == 2
    decoded = decode(data, unusual="reject")
    assert (decoded.format, decoded.conversion) == ("JPEG", "")


# The right place of the quarter that is stored at the top left: (bottom?, right?), transposed?
UPRIGHT = {
    1: (False, False, False),
    2: (False, True, False),
    3: (True, True, False),
    4: (True, False, False),
    5: (False, False, True),
    6: (False, True, True),
    7: (True, True, True),
    8: (True, False, True),
}


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", list(UPRIGHT))
def test_exif_orientation_is_applied_once(orientation, file_format):
    bottom, right, turned = UPRIGHT[orientation]
    decoded = decode(oriented(orientation, file_format))
    assert (decoded.height, decoded.width) == ((40, 20) if turned else (20, 40))
    grey = np.asarray(decoded.image.convert("L"))
    y, x = (-3 if bottom else 2), (-3 if right else 2)
    assert grey[y, x] < 60
    assert grey[-1 - y, x] > 200
    assert grey[y, -1 - x] > 200
    # No metadata is left by which a reader could turn the image again.
    assert 0x0112 not in decoded.image.getexif()
    assert decoded.image.info == {}


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x09"]
)
def test_broken_exif_leaves_a_good_image(exif):
    decoded = decode(encoded(noisy_image(), "JPEG", exif=exif))
    assert (decoded.height, decoded.width) == (32, 48)


def test_orientation_of_a_wrong_type_or_value_is_passed_over():
    exif = Image.Exif()
    exif[0x0112] = 77
    assert decode(encoded(noisy_image(), "JPEG", exif=exif)).width == 48


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    for file_format in ("PNG", "TIFF", "JPEG2000"):
        data = encoded(Image.fromarray(ramp), file_format)
        grey = pixels(data)[..., 0].astype(int)
        assert np.abs(grey - ramp / 257).max() <= (0.5 if file_format != "JPEG2000" else 2)
        assert decode(data).conversion == "sixteen_bit"
        assert reason_of(data, unusual="reject") == "sixteen_bit"


def test_sixteen_bit_grey_of_ppm():
    data = encoded(Image.fromarray(np.full((20, 20), 32768, np.int32)), "PPM")
    assert (pixels(data) == 128).all()
    assert decode(data).conversion == "sixteen_bit"


def test_sixteen_bit_colour():
    row = b"\0" + struct.pack(">HHH", 65535, 32896, 0) * 20
    data = png(20, 20, 16, 2, row * 20)
    assert (pixels(data) == [255, 128, 0]).all()
    assert reason_of(data, unusual="reject") == "sixteen_bit"
    ppm = b"P6 20 20 65535\n" + struct.pack(">HHH", 65535, 32896, 0) * 400
    assert (pixels(ppm) == [255, 128, 0]).all()
    assert reason_of(ppm, unusual="reject") == "sixteen_bit"
    file = io.BytesIO()
    tifffile.imwrite(file, np.full((20, 20, 3), 65535, np.uint16), photometric="rgb")
    assert reason_of(file.getvalue(), unusual="reject") == "sixteen_bit"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 32768.0, 65535.0], [0, 128, 255]),
        ([-10.0, 0.0, 10.0], [0, 128, 255]),
        ([np.nan, np.inf, 1.0], [0, 0, 255]),
    ],
)
def test_float_images_are_scaled_by_the_narrowest_range(values, expected):
    image = Image.fromarray(np.repeat(np.float32(values), 300).reshape(30, 30))
    decoded = decode(encoded(image, "TIFF"))
    assert decoded.conversion == "sixteen_bit"
    assert np.asarray(decoded.image)[..., 0].ravel()[[0, 450, 899]].tolist() == expected


def test_cmyk_colours_are_right_and_not_inverted():
    image = Image.new("RGB", (64, 64), (220, 30, 40)).convert("CMYK")
    for file_format in ("JPEG", "TIFF"):
        data = encoded(image, file_format)
        decoded = decode(data)
        assert decoded.conversion == "cmyk"
        assert np.abs(np.asarray(decoded.image).mean((0, 1)) - [220, 30, 40]).max() < 12
        assert reason_of(data, unusual="reject") == "cmyk"


def test_palette_and_its_transparency():
    image = Image.new("RGB", (20, 20), (10, 200, 30)).quantize(4)
    assert (pixels(encoded(image, "PNG")) == [10, 200, 30]).all()
    assert decode(encoded(image, "PNG")).conversion == "palette"
    assert reason_of(encoded(image, "PNG"), unusual="reject") == "palette"
    transparent = encoded(image, "PNG", transparency=image.getpixel((0, 0)))
    assert (pixels(transparent) == 255).all()


def test_animation_gives_its_first_frame():
    data = animated_gif()
    decoded = decode(data)
    assert decoded.conversion == "animated"
    assert (np.asarray(decoded.image) == [255, 0, 0]).all()
    assert reason_of(data, unusual="reject") == "animated"
    frames = [noisy_image(seed=1), noisy_image(seed=2)]
    for file_format in ("WEBP", "PNG", "TIFF", "AVIF"):
        many = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
        assert reason_of(many, unusual="reject") == "animated"


def test_alpha_is_laid_on_white():
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((255, 0, 0, 128), (0, 0, 20, 10))
    for data in (encoded(image, "PNG"), encoded(image, "WEBP", lossless=True, exact=True)):
        array = pixels(data)
        assert (array[10:] == 255).all()
        assert (np.abs(array[:10].astype(int) - [255, 127, 127]) <= 1).all()
        assert decode(data).conversion == "alpha"
        assert reason_of(data, unusual="reject") == "alpha"


def test_grey_with_alpha_and_a_transparent_colour():
    assert (pixels(encoded(Image.new("LA", (20, 20), (0, 0)), "PNG")) == 255).all()
    data = encoded(Image.new("RGB", (20, 20), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert (pixels(data) == 255).all()
    assert decode(data).conversion == "alpha"


def test_colours_that_have_no_conversion():
    lab = Image.new("LAB", (20, 20), (128, 128, 128))
    assert reason_of(encoded(lab, "TIFF")) == "unsupported_colours"


@pytest.mark.parametrize(
    "data",
    [HTML, b"\0" * 100, b"BMW is a make of cars, and no bitmap", b"P5 is text", b"%!PS-Adobe-3.0"],
)
def test_not_an_image(data):
    assert reason_of(data) == "not_an_image"


def test_formats_outside_the_list_are_not_tried():
    assert reason_of(encoded(noisy_image(), "EPS")) == "not_an_image"
    assert reason_of(encoded(noisy_image(), "ICO")) == "not_an_image"


def test_empty():
    assert reason_of(b"") == "empty_file"


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_truncated(file_format):
    data = encoded(noisy_image(200, 200), file_format)
    assert reason_of(data[: len(data) // 2]) == "truncated"


def test_truncated_within_the_header():
    assert reason_of(jpeg()[:40]) == "truncated"
    assert reason_of(encoded(noisy_image(), "PNG")[:20]) == "truncated"


def test_corrupt():
    data = bytearray(encoded(noisy_image(), "PNG"))
    position = data.index(b"IDAT") + 10
    data[position : position + 20] = b"\xff" * 20
    assert reason_of(bytes(data)) == "corrupt"


def test_sizes_are_checked_at_their_limits():
    assert reason_of(encoded(Image.new("RGB", (1, 1)), "PNG")) == "too_small"
    assert reason_of(encoded(Image.new("RGB", (100, 15)), "PNG")) == "too_small"
    assert decode(encoded(Image.new("RGB", (100, 16)), "PNG")).height == 16
    wide = encoded(Image.new("L", (20_000, 16)), "PNG")
    assert reason_of(wide) == "too_large"
    assert decode(wide, max_side=20_000).width == 20_000
    square = encoded(Image.new("L", (100, 100)), "PNG")
    assert reason_of(square, max_pixels=9_999) == "too_many_pixels"
    assert decode(square, max_pixels=10_000).height == 100


def test_bombs_are_found_by_their_header(monkeypatch):
    def refuse(self):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    assert reason_of(png(16_000, 16_000, 8, 2, b"")) == "too_many_pixels"
    assert reason_of(png(60_000, 60_000, 8, 2, b"")) == "too_large"


def test_pil_s_own_limit_on_pixels_plays_no_part(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(jpeg()).width == 48
        assert decode(encoded(noisy_image(), "PNG")).width == 48


def test_memory_error_is_not_the_image_s_fault(monkeypatch):
    def exhaust(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", exhaust)
    with pytest.raises(MemoryError):
        decode(jpeg())


def test_pil_s_flag_for_truncated_images_is_left_alone():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "PPM", "BMP"])
def test_random_damage_never_raises_anything_else(file_format):
    rng = random.Random(f"damage {file_format}")
    whole = encoded(noisy_image(40, 40), file_format)
    rejected = []
    for _ in range(300):
        data = bytearray(whole)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        # Most odd cases are in headers.
        reach = rng.choice([64, len(data)])
        for _ in range(rng.randrange(1, 12)):
            if data:
                data[rng.randrange(min(reach, len(data)))] = rng.randrange(256)
        try:
            decoded = decode(bytes(data))
        except ImageRejected as error:
            rejected.append(error.reason)
        else:
            assert decoded.image.mode == "RGB"
    assert len(rejected) > 30
    assert set(rejected) <= set(REJECT_REASONS)


def test_every_reason_is_explained():
    words = {
        value
        for name, value in vars(reject_reasons).items()
        if name.isupper() and isinstance(value, str)
    }
    assert words == REJECT_REASONS.keys() | reject_reasons.IMAGE_WARNINGS.keys()
    assert all(text and "\n" not in text for text in REJECT_REASONS.values())


@pytest.mark.parametrize(
    "file_format", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "JPEG2000", "BMP", "PPM"]
)
def test_images_are_known_by_how_they_begin(file_format):
    assert looks_like_image(encoded(noisy_image(), file_format)[:HEAD_BYTES])


@pytest.mark.parametrize("head", [b"", b"BM", b"BM is a bitmap", b"P1", b"P6 is a code", b"<html>"])
def test_texts_are_no_images(head):
    assert not looks_like_image(head)
