"""Samples of more than 8 bits: the range that an image is scaled from."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from storage.errors.exceptions import ConfigError, ImageRejected
from storage.images.bit_depth import check_bit_depth
from storage.images.decoding import DecodedImage, decode
from tests.support.files.bad_images import encoded, png

SIDE = 20


def ramp(bits: int, channels: int = 1) -> np.ndarray:
    """uint16 `[h, w, c]`: values 0 to 2**bits - 1, in other orders in other channels."""
    values = np.linspace(0, 2**bits - 1, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    return np.stack([np.roll(values, 7 * c, axis=0) for c in range(channels)], axis=-1)


def png16(values: np.ndarray) -> bytes:
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, colour_type, rows)


def tiff16(values: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    kind = "rgb" if values.shape[2] > 1 else "minisblack"
    tifffile.imwrite(file, values.squeeze(), photometric=kind, **options)
    return file.getvalue()


def eight_bit(values: np.ndarray, bits: int) -> np.ndarray:
    return np.rint(values * (255.0 / (2**bits - 1)))


def pixels(decoded: DecodedImage) -> np.ndarray:
    return np.asarray(decoded.image).astype(int)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("encode", [png16, tiff16])
def test_greys_are_scaled_from_the_narrowest_range_that_holds_them(encode, bits):
    decoded = decode(encode(ramp(bits)))
    assert decoded.bits == bits
    assert decoded.conversion == "sixteen_bit"
    assert np.abs(pixels(decoded) - eight_bit(ramp(bits), bits)).max() <= 0.5


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize(
    "encode",
    [
        png16,
        tiff16,
        lambda values: tiff16(values, byteorder=">"),
        lambda values: tiff16(values, compression="zlib"),
    ],
    ids=["png", "tiff", "big-endian", "deflate"],
)
def test_colours_are_too_though_the_library_reduces_them_while_decoding(encode, bits):
    decoded = decode(encode(ramp(bits, 3)))
    assert decoded.bits == bits
    assert np.abs(pixels(decoded) - eight_bit(ramp(bits, 3), bits)).max() <= 1


def test_planes_that_the_library_reads_as_noise_are_rejected():
    planes = np.moveaxis(ramp(16, 3), 2, 0)
    with pytest.raises(ImageRejected, match="planes of more than 8 bits"):
        decode(tiff16(planes, planarconfig="separate"))


def test_transparency_has_a_range_of_its_own():
    values = ramp(12, 4)
    values[..., 3] = 65535
    values[:5, :, 3] = 0
    decoded = decode(png16(values))
    assert decoded.bits == 12
    assert (pixels(decoded)[:5] == 255).all()
    assert np.abs(pixels(decoded)[5:] - eight_bit(values[5:, :, :3], 12)).max() <= 1


def test_a_dark_image_stays_dark_within_its_range():
    values = np.full((SIDE, SIDE, 1), 20_000, np.uint16)
    assert (pixels(decode(png16(values))) == 78).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_given_depth_overrides_the_range_in_use(channels):
    values = ramp(10, channels)
    decoded = decode(png16(values), bit_depth=12)
    assert decoded.bits == 12
    assert np.abs(pixels(decoded) - eight_bit(values, 12)).max() <= 1
    assert pixels(decoded).max() == 64
    bright = decode(png16(ramp(16, channels)), bit_depth=12)
    assert (pixels(bright)[ramp(16, channels)[..., -1] > 4095].max(axis=-1) == 255).all()


def test_stated_depths_of_formats_are_used():
    row = struct.pack(">H", 500) * SIDE
    pgm = b"P5 20 20 4095\n" + row * SIDE
    for options in ({}, {"bit_depth": 10}):
        assert set(pixels(decode(pgm, **options)).ravel()) == {31}
    jpeg2000 = encoded(Image.fromarray(np.full((SIDE, SIDE), 3000, np.uint16)), "JPEG2000")
    assert np.abs(pixels(decode(jpeg2000)) - 12).max() <= 1


def test_eight_bits_are_left_alone():
    image = Image.fromarray(ramp(8)[..., 0].astype(np.uint8))
    decoded = decode(encoded(image, "PNG"), bit_depth=12)
    assert (decoded.bits, decoded.conversion) == (None, "")
    assert (pixels(decoded)[..., 0] == np.asarray(image)).all()


def test_images_of_few_colours_are_marked():
    flat = np.zeros((SIDE, SIDE), np.uint8)
    flat[:, : SIDE - 1] = np.arange(SIDE - 1)
    assert decode(encoded(Image.fromarray(flat), "PNG")).few_colours
    flat[0, -1] = 200
    assert not decode(encoded(Image.fromarray(flat), "PNG")).few_colours


@pytest.mark.parametrize("bits", [7, 17, -1])
def test_depths_that_cannot_be_are_refused(bits):
    with pytest.raises(ConfigError, match=r"bit_depth is .*: choose 8 to 16"):
        check_bit_depth(bits)
