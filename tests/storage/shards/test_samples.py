"""Random access to a data set: the right bytes, no more than needed, and clear errors."""

from __future__ import annotations

import io
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.artifacts.fingerprints import Recipe
from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ArtifactError, ConfigError
from storage.images.records import read_parquet, write_parquet
from storage.shards.samples import ShardSamples
from tests.support.files.small_datasets import stored_sample, write_dataset

CATEGORIES = {1: "zebra", 2: "red kite", 3: "canoe"}
STORED = [stored_sample(seed, label) for seed, label in enumerate([1, 1, 1, 3, 3, 3, 1])]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", STORED, CATEGORIES)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def place(folder: Path, i: int, column: str) -> int:
    return int(read_parquet(folder / "index.parquet")[column][i].as_py())


def test_every_sample_is_read_as_it_was_written(folder):
    shards = ShardSamples.open(folder)
    assert len(shards) == 7
    for i, sample in enumerate(STORED):
        stored = shards.read(i)
        assert (shards.key(i), shards.labels[i]) == (sample.key, sample.label)
        assert (shards.heights[i], shards.widths[i]) == (96, 128)
        assert stored.jpeg == sample.jpeg
        labels = shards.decode_labels(i, stored.mask)
        np.testing.assert_array_equal(labels, np.where(sample.mask, sample.label, 0))
        np.testing.assert_array_equal(shards.decode_object(i, stored), sample.mask)
        without = replace(stored, facts=b"{}")
        np.testing.assert_array_equal(shards.decode_object(i, without), sample.mask)
    assert shards.shard(0) == str(folder / "small-000000.tar")
    assert shards.shard(6) == str(folder / "small-000001.tar")


@pytest.mark.parametrize(
    ("least", "size"),
    [((96, 128), (128, 96)), ((49, 64), (128, 96)), ((48, 64), (64, 48)), ((13, 10), (32, 24)),
     ((1, 1), (16, 12))],
)  # fmt: skip
def test_images_are_decoded_no_larger_than_they_must_be(folder, least, size):
    shards = ShardSamples.open(folder)
    image = shards.decode_image(0, shards.read(0).jpeg, least=least)
    assert (image.size, image.mode) == (size, "RGB")
    whole = Image.open(io.BytesIO(STORED[0].jpeg)).resize(size, Image.Resampling.BOX)
    difference = np.abs(np.asarray(image, int) - np.asarray(whole, int))
    assert difference.mean() < 3


def test_grey_images_come_in_colour(tmp_path):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(STORED[0].jpeg)).convert("L").save(buffer, "JPEG")
    grey = replace(STORED[0], jpeg=buffer.getvalue())
    shards = ShardSamples.open(write_dataset(tmp_path / "grey", [grey], CATEGORIES))
    assert shards.decode_image(0, shards.read(0).jpeg, least=(96, 128)).mode == "RGB"


def test_label_maps_of_16_bits(tmp_path):
    many = {number: f"thing {number}" for number in range(1, 301)}
    sample = stored_sample(0, 300)
    shards = ShardSamples.open(write_dataset(tmp_path / "many", [sample], many))
    labels = shards.decode_labels(0, shards.read(0).mask)
    assert (labels.dtype, shards.ignore_label) == (np.uint16, 65_535)
    np.testing.assert_array_equal(labels, np.where(sample.mask, 300, 0))


def test_categories_that_are_left_out_take_their_samples_along(folder):
    shards = ShardSamples.open(folder, leave_out=["zebra"])
    assert shards.categories == {1: "red kite", 2: "canoe"}
    assert shards.labels.tolist() == [2, 2, 2]
    assert [shards.key(i) for i in range(len(shards))] == [sample.key for sample in STORED[3:6]]
    labels = shards.decode_labels(0, shards.read(0).mask)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, np.where(STORED[3].mask, 2, 0))


def test_only_categories_that_are_there_can_be_left_out(folder):
    with pytest.raises(ConfigError, match=r"leave_out has lion, and .* has no such category"):
        ShardSamples.open(folder, leave_out=["lion", "zebra"])
    with pytest.raises(ArtifactError, match="no sample but of the categories to leave out"):
        ShardSamples.open(folder, leave_out=["canoe", "zebra"])


def test_samples_by_category(folder):
    shards = ShardSamples.open(folder)
    assert shards.categories == CATEGORIES
    assert shards.categories_without_samples() == {2: "red kite"}
    found = {label: indices.tolist() for label, indices in shards.samples_by_category().items()}
    assert found == {1: [0, 1, 2, 6], 3: [3, 4, 5]}


def test_it_travels_to_other_processes(folder):
    shards = ShardSamples.open(folder)
    copy = pickle.loads(pickle.dumps(shards))
    assert copy.read(5) == shards.read(5)


def publish(folder: Path, root: Path) -> ArtifactStore:
    store = ArtifactStore(str(root))
    recipe = Recipe(stage="assemble_dataset", version=1, config={})
    with store.attempt(ArtifactRef("assemble_dataset", recipe.key())) as attempt:
        for path in folder.iterdir():
            with attempt.create(path.name) as file:
                file.write(path.read_bytes())
        store.publish(attempt, recipe)
    return store


def test_an_artifact_is_checked_when_it_is_opened(folder, tmp_path):
    store = publish(folder, tmp_path / "store")
    [artifact] = store.published("assemble_dataset")
    shards = ShardSamples.open(artifact)
    assert shards.read(6).jpeg == STORED[6].jpeg
    Path(artifact.uri("small-000001.tar")).unlink()
    with pytest.raises(ArtifactError, match=r"small-000001\.tar is missing"):
        ShardSamples.open(artifact)


def test_a_shard_that_was_cut_is_named(folder):
    shards = ShardSamples.open(folder)
    with (folder / "small-000001.tar").open("r+b") as file:
        file.truncate(place(folder, 6, "jpg_offset") + 10)
    assert shards.read(0).jpeg == STORED[0].jpeg
    with pytest.raises(ArtifactError, match=rf"{STORED[6].key} of \S+small-000001\.tar is damaged"):
        shards.read(6)


def test_a_shard_that_is_gone_is_named(folder):
    shards = ShardSamples.open(folder)
    (folder / "small-000000.tar").unlink()
    with pytest.raises(ArtifactError, match=rf"{STORED[2].key} of \S+small-000000\.tar .* exist"):
        shards.read(2)


def test_a_damaged_image_is_named(folder):
    shards = ShardSamples.open(folder)
    overwrite(folder / "small-000000.tar", place(folder, 1, "jpg_offset"), b"no image at all")
    with pytest.raises(ArtifactError, match=rf"{STORED[1].key} of .*its image can't be decoded"):
        shards.decode_image(1, shards.read(1).jpeg, least=(96, 128))


def test_an_image_that_ends_early_is_named(folder):
    shards = ShardSamples.open(folder)
    jpeg = shards.read(1).jpeg
    with pytest.raises(ArtifactError, match=f"{STORED[1].key} of"):
        shards.decode_image(1, jpeg[: len(jpeg) // 2], least=(96, 128))


def test_a_damaged_label_map_is_named(folder):
    shards = ShardSamples.open(folder)
    start, length = place(folder, 4, "mask_offset"), place(folder, 4, "mask_length")
    overwrite(folder / "small-000001.tar", start + length // 2, b"\xff" * 8)
    with pytest.raises(ArtifactError, match=rf"{STORED[4].key} of .*its label map can't"):
        shards.decode_labels(4, shards.read(4).mask)


def test_another_image_in_its_place_is_noticed(folder):
    shards = ShardSamples.open(folder)
    other = stored_sample(9, 1, (64, 64)).jpeg
    with pytest.raises(ArtifactError, match="64 x 64 pixels instead of 128 x 96"):
        shards.decode_image(0, other, least=(1, 1))


def test_a_folder_without_a_data_set(tmp_path):
    with pytest.raises(ArtifactError, match="is not a data set"):
        ShardSamples.open(tmp_path)


def test_a_data_set_without_samples(tmp_path):
    with pytest.raises(ArtifactError, match="holds no sample"):
        ShardSamples.open(write_dataset(tmp_path / "none", [], CATEGORIES))


def test_a_vocabulary_that_lacks_a_category(tmp_path):
    folder = write_dataset(tmp_path / "short", STORED, {1: "zebra", 3: "canoe"})
    (folder / "vocabulary.json").write_text('[{"category_id": 1, "name": "zebra"}]')
    with pytest.raises(ArtifactError, match="category 3, which its vocabulary lacks"):
        ShardSamples.open(folder)


@pytest.mark.parametrize("text", ["", "[1]", '{"a": 1}', '[{"name": "zebra"}]'])
def test_a_damaged_vocabulary(folder, text):
    (folder / "vocabulary.json").write_text(text)
    with pytest.raises(ArtifactError, match="not a data set's vocabulary"):
        ShardSamples.open(folder)


def test_an_index_of_something_else(folder):
    table = read_parquet(folder / "index.parquet").drop_columns(["mask_offset"])
    write_parquet(table, folder / "index.parquet")
    with pytest.raises(ArtifactError, match="no column mask_offset"):
        ShardSamples.open(folder)


def test_a_folder_that_was_moved(folder, tmp_path):
    shutil.move(folder, tmp_path / "elsewhere")
    assert ShardSamples.open(tmp_path / "elsewhere").read(3).jpeg == STORED[3].jpeg
