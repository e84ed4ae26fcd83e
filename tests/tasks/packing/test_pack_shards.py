"""Samples: the original image, its label map, and its metadata."""

from __future__ import annotations

import io
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.mask import decode as decode_rle

from flows.pipelines.build import Build
from storage.errors.exceptions import CorpusError
from storage.files.filesystems import read_range
from storage.images.decoding import decode
from tasks.stage.layout import SHARD_INDEX
from tests.support.files.bad_images import encoded, oriented, tar_bytes, write
from tests.support.files.coloured_images import coloured_image, write_corpus
from tests.support.runs.builds import CLIP, build_here, rows_of, settings_of, write_vocabulary

pytestmark = pytest.mark.usefixtures("fake_clip", "fake_selfmask")


def read_samples(built: Build) -> list[dict[str, Any]]:
    """With webdataset, as a user would."""
    import webdataset

    tars = [built.dataset.uri(name) for name in sorted(built.dataset.files) if ".tar" in name]
    return list(webdataset.WebDataset(tars, shardshuffle=False))


def facts_of(sample: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(sample["json"])
    return facts


def image_of(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def by_name(built: Build) -> dict[str, dict[str, Any]]:
    return {Path(facts_of(s)["uri"]).name: s for s in read_samples(built)}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus", ["red", "green", "blue"], each=4)
    return tmp_path / "corpus"


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    return write_vocabulary(tmp_path / "v.txt", ["red", "green", "blue"])


def test_every_field_of_a_sample(corpus: Path, vocabulary: Path, tmp_path: Path) -> None:
    built = build_here(settings_of(corpus, vocabulary, tmp_path / "s"))
    samples = read_samples(built)
    assert len(samples) == built.dataset.counts["samples"] == 12
    masks = {part.key for part in built.dataset.store.published("make_masks")}
    embedded = {part.key for part in built.embedded}
    for sample in samples:
        facts = facts_of(sample)
        assert facts["root"] == "corpus"
        source = corpus / facts["uri"]
        colour, place = source.name.split("-")[0], ["red", "green", "blue"]
        label = place.index(colour) + 1
        assert sample["__key__"] == facts["image_id"] == sha256(sample["jpg"]).hexdigest()
        assert sample["jpg"] == source.read_bytes()  # the bytes as they came
        assert facts["original_bytes"] is True
        assert (facts["offset"], facts["length"]) == (-1, source.stat().st_size)
        rle = {"size": facts["mask"]["size"], "counts": facts["mask"]["counts"].encode()}
        label_map = np.asarray(image_of(sample["mask.png"]))
        assert label_map.shape == (facts["height"], facts["width"]) == (48, 40)
        assert label_map.dtype == np.uint8
        np.testing.assert_array_equal(label_map, np.where(decode_rle(rle), label, 0))
        assert (facts["label"], facts["ignore_label"]) == (label, 255)
        [category] = facts["categories"]
        assert (category["category_id"], category["name"]) == (label, colour)
        assert 1 <= category["rank"] <= 4
        assert 0 < category["score"] <= 1
        assert facts["weights"] == {"clip": CLIP, "selfmask": "selfmask:random:0"}
        assert facts["artifacts"]["make_masks"] in masks
        assert facts["artifacts"]["embed_images"] in embedded
        assert {"objectness", "area", "border_contact", "components", "refiner_agreement"} <= set(
            facts
        )


def test_no_sample_holds_a_path_of_this_machine(
    corpus: Path, vocabulary: Path, tmp_path: Path
) -> None:
    built = build_here(settings_of(corpus, vocabulary, tmp_path / "s"))
    assert not [s for s in read_samples(built) if str(tmp_path).encode() in s["json"]]
    full = build_here(settings_of(corpus, vocabulary, tmp_path / "s", absolute_paths=True))
    uris = {facts_of(sample)["uri"] for sample in read_samples(full)}
    assert {Path(uri) for uri in uris} == set(corpus.iterdir())
    # The images are neither embedded nor masked again.
    assert [part.key for part in full.embedded] == [part.key for part in built.embedded]
    assert len(full.dataset.store.published("plan_masks")) == 1


def test_offsets_find_every_file_of_every_sample(
    corpus: Path, vocabulary: Path, tmp_path: Path
) -> None:
    built = build_here(settings_of(corpus, vocabulary, tmp_path / "s"))
    index = {row["key"]: row for row in rows_of(built.dataset, SHARD_INDEX)}
    samples = read_samples(built)
    assert set(index) == {sample["__key__"] for sample in samples}
    assert len({row["shard"] for row in index.values()}) > 1
    for sample in samples:
        row = index[sample["__key__"]]
        for name, extension in (("jpg", "jpg"), ("json", "json"), ("mask", "mask.png")):
            uri = built.dataset.uri(row["shard"])
            data = read_range(uri, row[f"{name}_offset"], row[f"{name}_length"])
            assert data == sample[extension]


def test_images_that_are_no_upright_jpeg_are_made_one(vocabulary: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    red = coloured_image("red", 3)
    sources = {
        "plain.jpg": encoded(red, "JPEG", quality=90),
        "grey.jpg": encoded(red.convert("L"), "JPEG"),
        "lossless.png": encoded(red, "PNG"),
        "cmyk.jpg": encoded(red.convert("CMYK"), "JPEG"),
        "turned.jpg": oriented(6),
        "upright.jpg": oriented(1),
    }
    for name, data in sources.items():
        write(folder / name, data)
    built = build_here(settings_of(folder, vocabulary, tmp_path / "s", per_category=len(sources)))
    samples = by_name(built)
    assert set(samples) == set(sources)
    original = {n: facts_of(s)["original_bytes"] for n, s in samples.items()}
    assert original == {
        "plain.jpg": True, "grey.jpg": True, "upright.jpg": True,
        "lossless.png": False, "cmyk.jpg": False, "turned.jpg": False,
    }  # fmt: skip
    for name, sample in samples.items():
        upright = decode(sources[name]).image
        jpeg = image_of(sample["jpg"])
        assert jpeg.format == "JPEG"
        assert jpeg.getexif().get(0x0112, 1) == 1  # nothing left to turn
        difference = np.abs(np.asarray(jpeg.convert("RGB")).astype(int) - np.asarray(upright))
        assert difference.mean() < 3
        label_map = np.asarray(image_of(sample["mask.png"]))
        assert label_map.shape == (upright.height, upright.width)
        assert (sample["jpg"] == sources[name]) == original[name]


def test_members_of_tars_are_packed_by_their_place(vocabulary: Path, tmp_path: Path) -> None:
    images = {f"{n}.jpg": encoded(coloured_image("red", n), "JPEG") for n in range(4)}
    write(tmp_path / "tars" / "a.tar", tar_bytes(list(images.items())))
    built = build_here(settings_of(tmp_path / "tars", vocabulary, tmp_path / "s"))
    found = {facts_of(s)["member"]: s["jpg"] for s in read_samples(built)}
    assert found == images


def test_more_than_254_categories_take_16_bits(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", ["red", "blue"], each=3)
    # The one that fits comes last, so that its label needs the second byte.
    names = [*(f"thing {n}" for n in range(298)), "blue", "red"]
    vocabulary = write_vocabulary(tmp_path / "v.txt", names)
    built = build_here(settings_of(tmp_path / "corpus", vocabulary, tmp_path / "s", per_category=3))
    labels = set()
    for sample in read_samples(built):
        label_map = np.asarray(image_of(sample["mask.png"]))
        facts = facts_of(sample)
        assert label_map.dtype == np.uint16
        assert set(np.unique(label_map)) == {0, facts["label"]}
        assert facts["ignore_label"] == 65_535
        labels.add(facts["label"])
    assert {299, 300} <= labels


def test_an_image_that_is_gone_stops_the_shard(
    corpus: Path, vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.packing import pack_shards

    run = pack_shards.run

    def remove_then_run(*arguments: Any) -> Any:
        for path in corpus.iterdir():
            path.unlink()
        return run(*arguments)

    monkeypatch.setattr(pack_shards, "run", remove_then_run)
    settings = settings_of(corpus, vocabulary, tmp_path / "s")
    with pytest.raises(CorpusError, match="run the same command again"):
        build_here(settings)
    from storage.artifacts.store import ArtifactStore

    assert ArtifactStore(settings.store).published("pack_shards") == []
