"""Small generated image files and tars, valid and broken."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


def noisy_image(width: int = 48, height: int = 32, seed: int = 0) -> Image.Image:
    """Smooth colours with some noise, which no codec compresses to nothing."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(seed).integers(0, 24, (height, width, 3))
    base = np.stack([x * 255 // width, y * 255 // height, (x + y) % 200], axis=-1)
    return Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, file_format: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def jpeg(seed: int = 0) -> bytes:
    return encoded(noisy_image(seed=seed), "JPEG", quality=90)


def palette_png(seed: int = 0) -> bytes:
    """A label map as it is usually saved: category numbers with a palette for display."""
    labels = np.random.default_rng(seed).integers(0, 5, (32, 48), dtype=np.uint8)
    image = Image.fromarray(labels)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128])
    return encoded(image, "PNG")


def oriented(orientation: int, file_format: str = "JPEG") -> bytes:
    """White, 40 wide and 20 high as stored, with a black quarter at the stored top left."""
    image = Image.new("RGB", (40, 20), "white")
    image.paste((0, 0, 0), (0, 0, 20, 10))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if file_format == "JPEG" else {}
    return encoded(image, file_format, exif=exif, **options)


def png(width: int, height: int, bit_depth: int, colour_type: int, pixels: bytes) -> bytes:
    """A PNG with any header, also one that states more pixels than follow (as in a bomb)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(pixels, level=1))
        + chunk(b"IEND", b"")
    )


def animated_gif() -> bytes:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def tar_bytes(members: list[tuple[str, bytes]], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tar_format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
