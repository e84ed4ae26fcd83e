"""Memory of threads that decode images of the largest allowed size.

Of each kind of file one image of 10,000 x 10,000 pixels is made, a photograph enlarged, and
decoded in a process of its own that imports nothing but the decoder: once alone, and then eight
times by eight threads, each of which makes the image small, as the stages do, before it takes the
next. Bytes of the file are held once, by all threads together.

Peaks are of the whole process (`VmHWM`), of which the interpreter and its libraries are a part, 50
MB.
"""

from __future__ import annotations

import io
import struct
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import photographs
from benchmarks.measuring import (
    Figure,
    Report,
    argument_parser,
    in_fresh_process,
    load_average,
    memory_mb,
    peak_memory_mb,
    publish,
    use_cores,
)

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

_LIMIT_MB = 1500.0
_SIDE = 10_000
_READERS = 8
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
          (1, 0, 2, 1))  # fmt: skip


def write_images(photograph: Path, side: int, kinds: list[str], folder: Path) -> list[Path]:
    """A file of each kind, its name that of the kind."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    with Image.open(photograph) as image:
        large = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    paths = []
    for kind in kinds:
        path = folder / kind.replace(" ", "-")
        path.write_bytes(_MAKERS[kind](large))
        paths.append(path)
    return paths


def _saved(file_format: str, mode: str = "RGB", **options: Any) -> Callable[[Image.Image], bytes]:
    def encode(image: Image.Image) -> bytes:
        file = io.BytesIO()
        converted = image.quantize(256, method=2) if mode == "P" else image.convert(mode)
        converted.save(file, file_format, **options)
        return file.getvalue()

    return encode


def _deep(image: Image.Image) -> np.ndarray:
    """16 bits, all of them in use."""
    import numpy as np

    values = np.asarray(image).astype(np.uint16)
    values *= 257
    return values


def _png(image: np.ndarray, colour: int, *, interlaced: bool = False) -> bytes:
    """uint8 or uint16 [h, w(, c)]."""
    height, width = image.shape[:2]
    pieces = zlib.compressobj(1)
    data = []
    for row, column, rows, columns in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = image[row::rows, column::columns]
        for line in part if part.size else ():
            data.append(
                pieces.compress(b"\0" + line.astype(line.dtype.newbyteorder(">")).tobytes())
            )
    data.append(pieces.flush())
    depth = 8 * image.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)

    def chunk(name: bytes, content: bytes) -> bytes:
        return (struct.pack(">I", len(content)) + name + content
                + struct.pack(">I", zlib.crc32(name + content)))  # fmt: skip

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"".join(data))
            + chunk(b"IEND", b""))  # fmt: skip


def _png_of_16_bits(image: Image.Image) -> bytes:
    return _png(_deep(image), 2)


def _dark_png_of_16_bits(image: Image.Image) -> bytes:
    """12 bits in 16, so that the low bytes are read as well."""
    return _png(_deep(image) >> 4, 2)


def _grey_png_of_16_bits(image: Image.Image) -> bytes:
    return _png(_deep(image)[..., 0], 0)


def _interlaced_png(image: Image.Image) -> bytes:
    import numpy as np

    return _png(np.asarray(image), 2, interlaced=True)


def _tiled_tiff(image: Image.Image, *, compress: bool) -> bytes:
    """Tiles of 256 x 256."""
    import numpy as np

    side = 256
    pixels = np.asarray(image)
    height, width, _ = pixels.shape
    tiles = []
    for top in range(0, height, side):
        for left in range(0, width, side):
            part = pixels[top : top + side, left : left + side]
            tile = np.zeros((side, side, 3), np.uint8)
            tile[: part.shape[0], : part.shape[1]] = part
            tiles.append(zlib.compress(tile.tobytes(), 1) if compress else tile.tobytes())
    lengths = [len(tile) for tile in tiles]
    n = len(tiles)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, None),
            (259, 3, 1, 8 if compress else 1), (262, 3, 1, 2), (277, 3, 1, 3), (322, 3, 1, side),
            (323, 3, 1, side), (324, 4, n, None), (325, 4, n, None)]  # fmt: skip
    after = 8 + 2 + 12 * len(tags) + 4
    places = {258: after, 324: after + 6, 325: after + 6 + 4 * n}
    start = after + 6 + 8 * n
    offsets = np.cumsum([start, *lengths[:-1]]).astype("<u4")
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    for tag, kind, count, value in tags:
        head += struct.pack("<HHII", tag, kind, count, places[tag] if value is None else value)
    head += struct.pack("<I", 0) + struct.pack("<HHH", 8, 8, 8)
    head += offsets.tobytes() + np.array(lengths, "<u4").tobytes()
    return head + b"".join(tiles)


def _raw_tiff(image: Image.Image) -> bytes:
    return _saved("TIFF")(image)


def _float_tiff(image: Image.Image) -> bytes:
    return _saved("TIFF", "F")(image)


def _deep_tiff(image: Image.Image) -> bytes:
    from PIL.Image import fromarray

    file = io.BytesIO()
    fromarray(_deep(image)[..., 0]).save(file, "TIFF")
    return file.getvalue()


def _tiff_of_one_strip(compression: str) -> Callable[[Image.Image], bytes]:
    def encode(image: Image.Image) -> bytes:
        file = io.BytesIO()
        image.save(file, "TIFF", compression=compression, strip_size=2**30)
        return file.getvalue()

    return encode


_MAKERS: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG": _saved("JPEG", quality=85),
    "JPEG, progressive, 4:4:4": _saved("JPEG", quality=85, progressive=True, subsampling=0),
    "JPEG, CMYK": _saved("JPEG", "CMYK", quality=85),
    "PNG": _saved("PNG", compress_level=1),
    "PNG, interlaced": _interlaced_png,
    "PNG, alpha": _saved("PNG", "RGBA", compress_level=1),
    "PNG, grey and alpha": _saved("PNG", "LA", compress_level=1),
    "PNG, palette": _saved("PNG", "P", compress_level=1),
    "PNG, palette, transparency": _saved("PNG", "P", compress_level=1, transparency=3),
    "PNG, 16 bits": _png_of_16_bits,
    "PNG, 12 in 16 bits": _dark_png_of_16_bits,
    "PNG, grey, 16 bits": _grey_png_of_16_bits,
    "TIFF": _raw_tiff,
    "TIFF, LZW": _saved("TIFF", compression="tiff_lzw"),
    "TIFF, LZW, one strip": _tiff_of_one_strip("tiff_lzw"),
    "TIFF, tiles": lambda image: _tiled_tiff(image, compress=False),
    "TIFF, tiles, deflated": lambda image: _tiled_tiff(image, compress=True),
    "TIFF, grey, 16 bits": _deep_tiff,
    "TIFF, float": _float_tiff,
    "GIF": _saved("GIF", "P"),
    "WEBP": _saved("WEBP", quality=75, method=0),
    "WEBP, lossless": _saved("WEBP", lossless=True, quality=0, method=0),
    "AVIF": _saved("AVIF", quality=60, speed=10),
    "JPEG 2000": _saved("JPEG2000"),
    "BMP": _saved("BMP"),
    "PPM": _saved("PPM"),
}


def measure(path: Path, readers: int, images: int) -> dict[str, float]:
    """Peak memory in MB of a process that decodes a file `images` times by `readers` threads."""
    import storage.images.decoding  # noqa: F401 - before anything is measured

    data = path.read_bytes()
    before = memory_mb()
    started = time.perf_counter()
    with ThreadPoolExecutor(readers) as pool:
        assert len(set(pool.map(_read, [data] * images))) == 1
    return {
        "peak": peak_memory_mb(),
        "before": before,
        "file": len(data) / 1e6,
        "seconds": time.perf_counter() - started,
    }


def _read(data: bytes) -> bytes:
    """The processing of an image by a stage."""
    from storage.images import decoding

    if not hasattr(decoding, "decoded"):  # before it was bounded
        return decoding.decode(data).image.resize((224, 224)).tobytes()
    with decoding.decoded(data) as decoded:
        return decoded.image.resize((224, 224)).tobytes()


def main() -> None:
    parser = argument_parser(__doc__)
    photographs.add_option(parser)
    parser.add_argument("--side", type=int, default=_SIDE, help="pixels (10,000)")
    parser.add_argument("--kinds", nargs="+", default=list(_MAKERS), choices=list(_MAKERS))
    parser.add_argument("--alone", action="store_true", help="leave out the eight threads")
    options = parser.parse_args()
    use_cores(options.threads)
    load = load_average()

    (photograph,) = in_fresh_process(photographs.find, options.photographs, 1)
    figures, samples = [], {}
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            (path,) = in_fresh_process(write_images, photograph, options.side, [kind], Path(folder))
            alone = in_fresh_process(measure, path, 1, 1)
            samples[kind] = {"alone": alone}
            figures.append(Figure(f"{kind}: alone", alone["peak"], "MB"))
            figures.append(Figure(f"{kind}: its file", alone["file"], "MB"))
            if not options.alone:
                eight = in_fresh_process(measure, path, _READERS, _READERS)
                samples[kind]["eight threads"] = eight
                figures.append(Figure(f"{kind}: eight threads", eight["peak"], "MB", _LIMIT_MB))
        print(kind, samples[kind], flush=True)
        report = Report(
            benchmark="decoding_memory",
            sizes={
                "photograph": photograph.name,
                "pixels": options.side**2,
                "readers": _READERS,
                "kinds": len(samples),
            },
            figures=figures,
            samples=samples,
            load=load,
        )
        if options.out is not None:  # kinds take minutes
            report.write(options.out)
    publish(report, options.out)


if __name__ == "__main__":
    main()
