"""The stage `embed_images`: records, rejects and embeddings, from one read per image."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storage.artifacts.store import Artifact, ArtifactStore
from storage.corpora.image_bytes import read_image_bytes
from storage.embeddings.parts import open_embeddings
from storage.errors.exceptions import ConfigError
from tasks.indexing.embed_images import Config, locate
from tasks.stage.contract import PartOfPlan
from tasks.stage.layout import EMBEDDINGS, RECORDS, REJECTS
from tests.support.files.bad_images import (
    HTML,
    animated_gif,
    encoded,
    jpeg,
    noisy_image,
    oriented,
    png,
    tar_bytes,
    write,
)
from tests.support.files.coloured_images import coloured_image as coloured
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip
from tests.support.runs.builds import rows_of
from tests.support.runs.stages import Stages


def rows(part: Artifact) -> np.ndarray:
    return np.asarray(open_embeddings(part, EMBEDDINGS))


def expected_row(image: Image.Image) -> np.ndarray:
    clip = FakeClip()
    return clip.embed_images(clip.preprocess(image)[None]).numpy()[0].astype(np.float16)


def files_of(part: Artifact) -> dict[str, str]:
    return {name: entry["sha256"] for name, entry in part.files.items()}


def test_embeddings_are_row_aligned_with_records(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    write_corpus(corpus, ["red", "green", "blue"], each=3)
    part = stages.embed(stages.scan(corpus), batch_size=4)
    records = rows_of(part, RECORDS)
    assert [Path(r["uri"]).name for r in records] == sorted(p.name for p in corpus.iterdir())
    for record, row in zip(records, rows(part), strict=True):
        with Image.open(record["uri"]) as image:
            np.testing.assert_array_equal(row, expected_row(image))
        assert record["image_id"] == sha256(Path(record["uri"]).read_bytes()).hexdigest()
        assert (record["height"], record["width"]) == (48, 40)
        assert (record["offset"], record["format"], record["conversion"]) == (-1, "JPEG", "")
    assert rows(part).dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(rows(part).astype(float), axis=1), 1, atol=2e-3)
    assert part.counts == {
        "read": 9, "images": 9, "duplicates": 0, "rejects": {}, "conversions": {}
    }  # fmt: skip


BAD_FILES = {
    "empty.jpg": (b"", "empty_file"),
    "html.jpg": (HTML, "not_an_image"),
    "cut.jpg": (jpeg()[:-200], "truncated"),
    "pixel.png": (encoded(Image.new("RGB", (1, 1)), "PNG"), "too_small"),
    "long.png": (png(20_000, 20, 8, 2, b""), "too_large"),
    "bomb.png": (png(16_000, 16_000, 8, 2, b""), "too_many_pixels"),
}


def test_every_bad_image_is_counted_and_recorded_under_its_reason(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    for name, (data, _) in BAD_FILES.items():
        write(corpus / name, data)
    write(corpus / "good.jpg", jpeg())
    one = 512 + (len(jpeg(1)) + 511) // 512 * 512  # a header block, and the image in whole blocks
    tar = tar_bytes([("a.jpg", jpeg(1)), ("b.jpg", jpeg(2))])
    write(corpus / "damaged.tar", tar[: one + 700])
    part = stages.embed(stages.scan(corpus))
    found = {Path(r["uri"]).name: r["reject_reason"] for r in rows_of(part, REJECTS)}
    assert found == {name: reason for name, (_, reason) in BAD_FILES.items()} | {
        "damaged.tar": "truncated_tar"
    }
    assert part.counts["rejects"] == dict.fromkeys(sorted(found.values()), 1)
    assert "good.jpg" in {Path(r["uri"]).name for r in rows_of(part, RECORDS)}
    assert part.counts["read"] == part.counts["images"] + len(found)


def test_equal_bytes_are_embedded_once_and_keep_both_places(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    for name, seed in {"a.jpg": 1, "b.jpg": 2, "c.jpg": 1, "d.jpg": 3}.items():
        write(corpus / name, jpeg(seed))
    part = stages.embed(stages.scan(corpus), batch_size=2)
    records = rows_of(part, RECORDS)
    assert [Path(r["uri"]).name for r in records] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert records[0]["image_id"] == records[2]["image_id"]
    np.testing.assert_array_equal(rows(part)[0], rows(part)[2])
    assert not np.array_equal(rows(part)[0], rows(part)[3])
    assert fake_clip.calls["images"] == 3
    assert part.counts["duplicates"] == 1


def test_sizes_are_those_of_the_upright_image(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    write(corpus / "turned.jpg", oriented(6))  # stored 40 wide and 20 high
    [record] = rows_of(stages.embed(stages.scan(corpus)), RECORDS)
    assert (record["height"], record["width"]) == (40, 20)


def test_members_of_tars_can_be_read_again_by_their_place(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    images = {"x/a.jpg": jpeg(1), "b.jpg": jpeg(2)}
    members = [*images.items(), ("b.txt", b"a caption"), ("b.jpg", jpeg(3)), ("/abs.jpg", jpeg(4))]
    write(corpus / "0.tar", tar_bytes(members))
    part = stages.embed(stages.scan(corpus))
    records = rows_of(part, RECORDS)
    assert {r["member"]: read_image_bytes(r["uri"], r["offset"], r["length"]) for r in records} == (
        images
    )
    assert {(r["member"], r["reject_reason"]) for r in rows_of(part, REJECTS)} == {
        ("b.jpg", "duplicate_member"),
        ("/abs.jpg", "unsafe_member_name"),
    }


def test_threads_change_neither_order_nor_bytes(
    stages: Stages, corpus: Path, tmp_path: Path, fake_clip: FakeClip
) -> None:
    write_corpus(corpus, ["red", "blue"], each=12)
    write(corpus / "m.tar", tar_bytes([(f"{n}.jpg", jpeg(n)) for n in range(8)]))
    write(corpus / "bad.jpg", HTML)
    plan = stages.scan(corpus)
    parts = [stages.embed(plan, read_threads=1, batch_size=3)]
    other = Stages(ArtifactStore(str(tmp_path / "other")))
    parts.append(other.embed(other.scan(corpus), read_threads=7, batch_size=3))
    assert parts[0].ref == parts[1].ref
    assert files_of(parts[0]) == files_of(parts[1])


UNUSUAL = {
    "cmyk": encoded(noisy_image().convert("CMYK"), "JPEG"),
    "sixteen_bit": encoded(Image.fromarray(np.full((20, 20), 40_000, np.uint16)), "PNG"),
    "palette": encoded(noisy_image().quantize(8), "PNG"),
    "animated": animated_gif(),
    "alpha": encoded(noisy_image().convert("RGBA"), "PNG"),
}


@pytest.mark.parametrize("unusual_images", ["convert", "reject"])
def test_unusual_images_are_converted_or_rejected_by_setting(
    unusual_images: Any, stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    for name, data in UNUSUAL.items():
        write(corpus / f"{name}.png", data)
    write(corpus / "usual.jpg", jpeg())
    part = stages.embed(stages.scan(corpus), unusual_images=unusual_images)
    each = dict.fromkeys(sorted(UNUSUAL), 1)
    converted, rejected = (each, {}) if unusual_images == "convert" else ({}, each)
    assert (part.counts["conversions"], part.counts["rejects"]) == (converted, rejected)
    assert part.counts["images"] == 1 + len(converted)


def test_a_part_without_a_usable_image_is_a_part(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    write(corpus / "a.jpg", HTML)
    part = stages.embed(stages.scan(corpus))
    assert rows(part).shape == (0, FakeClip.embedding_dim)
    assert part.counts["images"] == 0
    assert fake_clip.calls["images"] == 0


def test_the_key_covers_the_settings_that_affect_the_rows_and_no_others(
    stages: Stages, corpus: Path
) -> None:
    from dataclasses import replace

    from tests.support.runs.builds import clip

    write_corpus(corpus, ["red"], each=1)
    inputs = PartOfPlan(stages.scan(corpus).ref, 0)
    config = Config(clip=clip())
    key = locate(config, inputs, stages.store).key
    other_device = replace(config, clip=replace(clip(), device="cuda:1"))
    for same in (replace(config, read_threads=3), other_device):
        assert locate(same, inputs, stages.store).key == key
    for different in (
        replace(config, batch_size=7),
        replace(config, unusual_images="reject"),
        replace(config, clip=replace(clip(), precision="bfloat16")),
        replace(config, clip=replace(clip(), architecture="ViT-B-32")),
    ):
        assert locate(different, inputs, stages.store).key != key


def test_an_embedding_that_is_not_finite_stops_the_part_and_leaves_nothing(
    stages: Stages, corpus: Path, fake_clip: FakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage.errors.exceptions import ZutisError

    write_corpus(corpus, ["red"], each=2)
    plan = stages.scan(corpus)
    monkeypatch.setattr(fake_clip, "embed_images", lambda pixels: pixels.mean((2, 3)) * np.nan)
    with pytest.raises(ZutisError, match="not finite"):
        stages.embed(plan)
    assert stages.store.published("embed_images") == []


def test_unusual_images_must_be_known() -> None:
    from tests.support.runs.builds import clip

    with pytest.raises(ConfigError, match="unusual_images is 'keep'"):
        Config(clip=clip(), unusual_images="keep")  # type: ignore[arg-type]


def test_a_grey_and_a_coloured_image_differ(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    """Grey JPEGs are usual: embedded as RGB, under no conversion."""
    write(corpus / "grey.jpg", encoded(coloured("red", 0).convert("L"), "JPEG"))
    [record] = rows_of(stages.embed(stages.scan(corpus)), RECORDS)
    assert record["conversion"] == ""


def test_images_with_decoder_warnings_are_counted_and_used(
    stages: Stages, corpus: Path, fake_clip: FakeClip, capfd: pytest.CaptureFixture[str]
) -> None:
    write(corpus / "good.jpg", jpeg(seed=1))
    for seed in (2, 3):  # EXIF data that ends early
        damaged = encoded(noisy_image(seed=seed), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
        write(corpus / f"odd{seed}.jpg", damaged)
    part = stages.embed(stages.scan(corpus))
    assert part.counts["images"] == 3
    assert part.counts["rejects"] == {}
    assert part.counts["warnings"] == {"damaged_metadata": 2}
    printed = capfd.readouterr()
    assert "EXIF" not in printed.err + printed.out
