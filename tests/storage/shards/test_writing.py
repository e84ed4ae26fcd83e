"""Shards: reproducible bytes, right offsets, and readers of other libraries."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from storage.errors.exceptions import ConfigError
from storage.shards.writing import (
    INDEX_SCHEMA,
    Sample,
    ShardWriter,
    encode_jpeg,
    encode_label_map,
    ignore_label,
)
from tests.support.files.bad_images import jpeg

FACTS = {"uri": "/a b/ö.jpg", "label": 3, "score": 0.25, "categories": [{"name": "crêpe", "id": 3}]}


def samples(count: int = 5) -> list[Sample]:
    made = []
    for seed in range(count):
        data = jpeg(seed)
        mask = np.zeros((32, 48), dtype=np.bool_)
        mask[4 : 12 + seed, 5:20] = True
        key = hashlib.sha256(data).hexdigest()
        made.append(Sample(key, data, mask, 3, FACTS | {"image_id": key}))
    return made


def shard(items: list[Sample], largest_label: int = 80) -> tuple[bytes, pa.Table]:
    file = io.BytesIO()
    writer = ShardWriter(file, largest_label)
    for item in items:
        writer.write(item)
    index = writer.close()
    return file.getvalue(), index


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_equal_samples_give_equal_bytes_at_any_time(monkeypatch):
    first = shard(samples())
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.5)
    second = shard(samples())
    assert first[0] == second[0]
    assert first[1].equals(second[1])


def test_index_points_at_the_members_bytes():
    data, index = shard(samples())
    assert index.schema == INDEX_SCHEMA
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert len(members) == 15
    for row, sample in zip(index.to_pylist(), samples(), strict=True):
        assert (row["key"], row["label"]) == (sample.key, 3)
        assert (row["height"], row["width"]) == (32, 48)
        content = {}
        for column, extension in (("jpg", "jpg"), ("json", "json"), ("mask", "mask.png")):
            offset, length = row[f"{column}_offset"], row[f"{column}_length"]
            member = members[f"{sample.key}.{extension}"]
            assert (offset, length) == (member.offset_data, member.size)
            content[column] = data[offset : offset + length]
        assert content["jpg"] == sample.jpeg
        assert json.loads(content["json"]) == sample.facts
        np.testing.assert_array_equal(pixels(content["mask"]), np.where(sample.mask, 3, 0))


def test_shard_without_samples_is_an_empty_tar():
    data, index = shard([])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getmembers() == []
    assert index.num_rows == 0
    assert index.schema == INDEX_SCHEMA


def test_webdataset_reads_it(tmp_path):
    import webdataset

    (tmp_path / "s-000000.tar").write_bytes(shard(samples())[0])
    read = list(webdataset.WebDataset(str(tmp_path / "s-000000.tar"), shardshuffle=False))
    assert [item["__key__"] for item in read] == [sample.key for sample in samples()]
    for item, sample in zip(read, samples(), strict=True):
        assert item["jpg"] == sample.jpeg
        assert json.loads(item["json"]) == sample.facts
        np.testing.assert_array_equal(pixels(item["mask.png"]) == 3, sample.mask)


@pytest.mark.slow
def test_hugging_face_datasets_reads_it(tmp_path: Path):
    import datasets

    (tmp_path / "s-000000.tar").write_bytes(shard(samples())[0])
    read = datasets.load_dataset(
        "webdataset",
        data_files=str(tmp_path / "s-*.tar"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert [item["__key__"] for item in read] == [sample.key for sample in samples()]
    for item, sample in zip(read, samples(), strict=True):
        assert item["json"] == sample.facts
        assert item["jpg"].size == (48, 32)
        np.testing.assert_array_equal(np.asarray(item["mask.png"]) == 3, sample.mask)


@pytest.mark.parametrize(
    ("largest", "ignored", "depth"),
    [(1, 255, np.uint8), (254, 255, np.uint8), (255, 65_535, np.uint16), (919, 65_535, np.uint16)],
)
def test_depth_of_label_maps(largest, ignored, depth):
    assert ignore_label(largest) == ignored
    mask = np.array([[True, False], [False, True]])
    with Image.open(io.BytesIO(encode_label_map(mask, largest, largest))) as image:
        assert image.mode == ("L" if depth is np.uint8 else "I;16")
        labels = np.asarray(image)
    assert labels.dtype == depth
    np.testing.assert_array_equal(labels, np.where(mask, largest, 0))
    assert ignored not in labels


def test_too_many_categories():
    assert ignore_label(65_534) == 65_535
    with pytest.raises(ConfigError, match="65,535 categories"):
        ignore_label(65_535)


@pytest.mark.parametrize("label", [0, 81, 255])
def test_labels_outside_the_vocabulary_are_our_own_mistake(label):
    with pytest.raises(AssertionError):
        encode_label_map(np.ones((1, 1), np.bool_), label, 80)


def test_key_with_a_dot_is_our_own_mistake():
    [sample] = samples(1)
    with pytest.raises(AssertionError, match="dot"):
        shard([Sample("a.b", sample.jpeg, sample.mask, 3, {})])


def test_not_a_number_is_no_json():
    [sample] = samples(1)
    with pytest.raises(ValueError, match="JSON"):
        shard([Sample("ab", sample.jpeg, sample.mask, 3, {"score": float("nan")})])


def test_jpeg_without_chroma_subsampling():
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = 255
    decoded = np.asarray(Image.open(io.BytesIO(encode_jpeg(Image.fromarray(stripes)))))
    assert np.abs(decoded.astype(int) - stripes).mean() < 8
