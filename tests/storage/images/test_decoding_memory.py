"""Memory of decoding: estimated from the header, shared by threads, small in each step."""

from __future__ import annotations

import os
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.images import colours, decoding
from storage.images.decoding import decode, decoded
from storage.images.memory_budget import DECODING, MemoryBudget
from tests.support.files.bad_images import encoded, jpeg, noisy_image, oriented, palette_png, png
from tests.support.processes.nursery import run_zutis


class Asked(MemoryBudget):
    """Records the requested amounts, and the maximum held at a time."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.amounts: list[int] = []
        self.most = 0

    def _take(self, thread: int, amount: int) -> None:
        super()._take(thread, amount)
        with self._changed:
            self.amounts.append(amount)
            self.most = max(self.most, self.held)


@pytest.fixture
def budget(monkeypatch) -> Asked:
    asked = Asked(100_000)
    monkeypatch.setattr(decoding, "DECODING", asked)
    return asked


def noise(channels: int, bits: int = 16, size: int = 64) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 1 << bits, (size, size, channels))
    return values.astype(">u2" if bits > 8 else "u1")


def deep_png(values: np.ndarray, colour_type: int) -> bytes:
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    return png(width, height, 8 * values.dtype.itemsize, colour_type, rows)


@pytest.mark.parametrize(
    ("data", "bytes_a_pixel"),
    [
        (jpeg(), 4),
        (encoded(noisy_image(), "JPEG", progressive=True), 10),
        (encoded(noisy_image().convert("L"), "JPEG"), 5),
        (encoded(noisy_image().convert("CMYK"), "JPEG"), 8),
        (oriented(1), 4),
        (oriented(6), 8),
        (oriented(6, "TIFF"), 8),
        (encoded(noisy_image(), "PNG"), 4),
        (palette_png(), 5),
        (encoded(noisy_image().convert("RGBA"), "PNG"), 8),
        (encoded(noisy_image().convert("LA"), "PNG"), 8),
        (deep_png(noise(3), 2), 8),
        (deep_png(noise(4), 6), 8),
        (deep_png(noise(1), 0), 6),
        (encoded(noisy_image(), "TIFF"), 4),
        (encoded(noisy_image(), "TIFF", compression="tiff_lzw"), 10),  # one strip
        (encoded(noisy_image().convert("F"), "TIFF"), 8),
        (encoded(noisy_image(), "WEBP"), 16),
        (encoded(noisy_image(), "AVIF"), 13),
        (encoded(noisy_image(), "BMP"), 4),
        (encoded(noisy_image(), "PPM"), 4),
    ],
)
def test_memory_is_estimated_from_the_header(data, bytes_a_pixel, budget):
    image = decode(data)
    assert budget.amounts == [bytes_a_pixel * image.height * image.width]
    assert budget.held == 0


def test_memory_of_the_block_is_held_until_its_end(budget):
    with decoded(jpeg(), besides=lambda height, width: 1000 * height + width) as image:
        assert image.image.size == (48, 32)
        assert budget.held == 4 * 48 * 32 + 1000 * 32 + 48
        with pytest.raises(RuntimeError, match="one part of the memory"):
            decode(jpeg())
    assert budget.held == 0


def test_threads_decode_side_by_side_within_the_budget(budget):
    data = encoded(noisy_image(60, 100), "JPEG")  # 24,000 bytes of 100,000

    def small(_: int) -> bytes:
        with decoded(data) as image:
            return image.image.resize((8, 8)).tobytes()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(small, range(100)))
    assert len(set(results)) == 1
    assert len(budget.amounts) == 100
    assert budget.most <= 100_000


@pytest.mark.slow
@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_no_step_needs_numbers_of_the_whole_image(colour_type, bits):
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    values = noise(channels, bits, size=1500).astype(">u2")
    data = deep_png(values, colour_type)
    tracemalloc.start()  # NumPy's arrays, without Pillow's
    try:
        image = decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert image.image.size == (1500, 1500)
    assert peak < 12 * 1500 * 1500 + 40 * 2**20


@pytest.mark.parametrize("pixels_at_once", [1, 700, 10**9])
@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_rows_are_converted_as_the_whole_is(colour_type, bits, pixels_at_once, monkeypatch):
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    data = deep_png(noise(channels, bits).astype(">u2"), colour_type)
    expected = decode(data)
    monkeypatch.setattr(colours, "_PIXELS_AT_ONCE", pixels_at_once)
    found = decode(data)
    assert found.image.tobytes() == expected.image.tobytes()
    assert found.bits == expected.bits


_DECODE_BY_EIGHT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from storage.corpora.image_bytes import ImageBytes
from tasks.indexing.embedding_parts import _prepare

def status(name):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024

data = Path(sys.argv[1]).read_bytes()
clip = SimpleNamespace(preprocess=lambda image: image.resize((8, 8)))
config = SimpleNamespace(unusual_images="convert", bit_depth=0)
reading = SimpleNamespace(clip=lambda: clip, config=config, given=None)
before = status("VmRSS")

def prepare(number):
    image = ImageBytes("file.png", 0, len(data), data, None)
    return _prepare(image, reading).record["reject_reason"]

with ThreadPoolExecutor(8) as pool:
    assert not any(pool.map(prepare, range(8)))
print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_eight_threads_take_no_more_than_the_budget(mode, tmp_path):
    side = 6000
    path = tmp_path / "large.png"
    Image.new(mode, (side, side)).save(path, compress_level=1)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = run_zutis([str(path)], tmp_path, environment, timeout=200, code=_DECODE_BY_EIGHT)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < DECODING.total + 150 * 2**20 < 8 * 5 * side**2
