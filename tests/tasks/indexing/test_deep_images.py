"""Images of more than 8 bits in whole builds: scaled by the bits that they use, and embedded again
only if the bit depth changes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from flows.pipelines.build import Build
from flows.summaries.build import summarise
from tasks.stage.layout import RECORDS
from tests.support.files.bad_images import encoded, write
from tests.support.files.coloured_images import coloured_image, write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import (
    build_cached,
    build_here,
    rows_of,
    settings_of,
    write_vocabulary,
)
from zutis.dataset import Dataset


def deep(colour: str, bits: int, seed: int = 0) -> bytes:
    """A made image as a TIFF of 16 bits, of which it uses some."""
    values = np.asarray(coloured_image(colour, seed)).astype(np.uint32) * ((1 << bits) - 1) // 255
    file = io.BytesIO()
    tifffile.imwrite(file, values.astype(np.uint16), photometric="rgb")
    return file.getvalue()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus", ["red"], each=5)
    for number, bits in enumerate((10, 12, 12, 12)):
        write(tmp_path / "corpus" / f"z{number}.tif", deep("blue", bits, number))
    return tmp_path / "corpus"


@pytest.fixture
def settings(tmp_path: Path, corpus: Path) -> Any:
    vocabulary = write_vocabulary(tmp_path / "v.txt", ["red", "blue"])

    def settings(**changes: Any) -> Any:
        return settings_of(corpus, vocabulary, tmp_path / "store", **changes)

    return settings


def embedding_counts(build: Build) -> list[dict[str, Any]]:
    return [part.counts for part in build.embedded]


def test_dark_images_of_many_bits_are_retrieved_and_masked(
    settings: Any, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    built = build_here(settings())
    assert [counts.get("bit_depths") for counts in embedding_counts(built)] == [
        None,
        {"10": 1, "12": 3},
    ]
    [blue] = [row for row in built.shard_plan.counts["categories"] if row["name"] == "blue"]
    assert blue["masked"] == 4
    fact = summarise(built, []).facts["deep images"]
    assert fact == (
        "4 images have more than 8 bits a channel and are scaled by the range that they use: "
        "1 by 10 bits, 3 by 12 bits; --bit-depth takes one for all"
    )
    assert build_cached(settings()).dataset.ref == built.dataset.ref


def test_a_bit_depth_embeds_only_parts_with_deep_images_again(
    settings: Any, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    first = build_here(settings())
    before = fake_clip.calls["images"], fake_selfmask.calls["images"]
    second = build_here(settings(bit_depth=12))
    again = fake_clip.calls["images"] - before[0], fake_selfmask.calls["images"] - before[1]
    assert again == (4, 4)
    assert first.embedded[0].ref == second.embedded[0].ref
    assert first.embedded[1].ref != second.embedded[1].ref
    assert second.embedded[1].counts["bit_depths"] == {"12": 4}
    assert "--bit-depth" not in summarise(second, []).facts["deep images"]
    assert build_cached(settings(bit_depth=12)).dataset.ref == second.dataset.ref
    assert build_cached(settings()).dataset.ref == first.dataset.ref


@pytest.mark.parametrize(("bit_depth", "brightest"), [(0, 240), (12, 60)])
def test_shards_have_the_pixels_that_were_embedded_and_masked(
    settings: Any,
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
    bit_depth: int,
    brightest: int,
) -> None:
    built = build_here(settings(bit_depth=bit_depth))
    of_ten_bits = next(
        row["image_id"]
        for row in rows_of(built.embedded[1], RECORDS)
        if row["uri"].endswith("z0.tif")
    )
    shown = {sample.key: sample.image for sample in Dataset.of(built.dataset)}
    assert abs(int(shown[of_ten_bits].max()) - brightest) < 12


def test_parts_of_before_that_divided_by_the_file_s_range_are_read_again(
    settings: Any, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    """Such a part's counts don't say by how many bits its images were scaled."""
    built = build_here(settings())
    old = Path(built.embedded[1].location).parent
    manifest = next(old.glob("*.json"))
    text = manifest.read_text()
    assert '"bit_depths"' in text
    manifest.write_text(text.replace('"bit_depths"', '"of_before"'))
    again = build_here(settings())
    assert again.embedded[1].ref != built.embedded[1].ref
    assert again.embedded[1].counts["bit_depths"] == {"10": 1, "12": 3}
    assert build_cached(settings()).dataset.ref == again.dataset.ref


def test_images_of_few_colours_are_counted(
    settings: Any, corpus: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    write(corpus / "drawing.png", encoded(Image.new("RGB", (40, 40), (0, 0, 200)), "PNG"))
    fact = summarise(build_here(settings()), []).facts["few colours"]
    assert fact.startswith("5 images have fewer than 20 colours")


def test_decoder_warnings_are_in_the_summary(
    settings: Any, corpus: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    cut = b"Exif\0\0II*\0\x08\0\0\0\xff\xff"
    write(corpus / "odd.jpg", encoded(Image.new("RGB", (40, 40), (0, 0, 200)), "JPEG", exif=cut))
    fact = summarise(build_here(settings()), []).facts["odd files"]
    assert fact == ("1 damaged_metadata (EXIF data or TIFF tags are damaged; the pixels are good)")
