"""Masks: the right pixels at the original size, or a row with the reject reason."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from pycocotools.mask import decode as decode_rle

from flows.settings.build import selfmask_model
from storage.artifacts.store import Artifact
from storage.errors.exceptions import ConfigError, CorpusError
from storage.images.decoding import decode
from tasks.masking import make_masks
from tasks.masking.make_masks import Config
from tasks.stage.layout import MASK_PLAN, MASKS
from tests.support.files.bad_images import oriented, write
from tests.support.files.coloured_images import coloured_image, write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import rows_of
from tests.support.runs.stages import Stages
from zutis_model.layers.normalisation import denormalise, normalise
from zutis_model.saliency.selfmask import load_selfmask


def planned(stages: Stages, corpus: Path, config: Config, k: int, part_images: int = 0) -> Artifact:
    index = stages.index(stages.scan(corpus))
    plan = stages.plan_masks(stages.retrieve(index, ["red"], k), config, part_images)
    assert plan is not None
    return plan


def masked(stages: Stages, corpus: Path, k: int, **settings: Any) -> dict[str, dict]:
    """Rows of the masks of all images, by file name."""
    config = stages.mask_config(**settings)
    plan = planned(stages, corpus, config, k)
    names = {row["image_id"]: Path(row["uri"]).name for row in rows_of(plan, MASK_PLAN)}
    return {names[row["image_id"]]: row for row in rows_of(stages.mask(plan, config), MASKS)}


def pixels(row: dict) -> np.ndarray:
    size = [row["height"], row["width"]]
    return decode_rle({"size": size, "counts": row["counts"].encode()}).astype(bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def rectangle(image: Image.Image) -> np.ndarray:
    """The rectangle of an image from `coloured_images.coloured_image`."""
    array = np.asarray(image).astype(int)
    return np.abs(array - array[0, 0]).max(axis=2) > 60


@pytest.mark.parametrize("size", [(48, 40), (120, 90), (64, 200)])
def test_a_mask_covers_its_object_at_the_original_size(
    size: tuple[int, int],
    stages: Stages,
    corpus: Path,
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
) -> None:
    corpus.mkdir()
    for seed in range(3):
        coloured_image("red", seed, size).save(corpus / f"{seed}.png")
    for name, row in masked(stages, corpus, k=3).items():
        assert (row["height"], row["width"]) == size
        assert row["reject_reason"] == ""
        truth = rectangle(coloured_image("red", int(name[0]), size))
        # The network sees 32 pixels of the shorter side: an edge may be a pixel of that off.
        assert iou(pixels(row), truth) > 0.8
        assert row["area"] == pytest.approx(pixels(row).mean(), rel=1e-6)
        assert row["objectness"] == pytest.approx(0.75)
        assert (row["components"], row["border_contact"]) == (1, 0.0)
        assert row["refiner_agreement"] > 0.7


def test_an_image_that_exif_turns_is_masked_upright(
    stages: Stages, corpus: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    """White with a black quarter at the stored top left; turned, at the top right."""
    data = oriented(6)
    write(corpus / "turned.jpg", data)
    [row] = masked(stages, corpus, k=1).values()
    upright = np.asarray(decode(data).image.convert("L"))
    assert (row["height"], row["width"]) == upright.shape == (40, 20)
    assert iou(pixels(row), np.abs(upright.astype(int) - upright[0, 0]) > 128) > 0.8


def test_an_image_that_cannot_be_masked_keeps_its_row_with_the_reason(
    stages: Stages,
    corpus: Path,
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_corpus(corpus, ["red"], each=2)
    Image.new("RGB", (40, 40), (90, 40, 40)).save(corpus / "blank.png")
    Image.new("RGB", (400, 48), (240, 40, 40)).save(corpus / "long.png")  # 8.3 to 1
    Image.new("RGB", (384, 48), (240, 40, 41)).save(corpus / "just.png")  # 8 to 1
    Image.new("RGB", (44, 40), (255, 255, 255)).save(corpus / "white.png")
    predict = fake_selfmask.predict

    def full_where_white(images):
        soft, objectness = predict(images)
        return soft + (images.mean() > 2).float(), objectness  # white after normalisation

    monkeypatch.setattr(fake_selfmask, "predict", full_where_white)
    rows = masked(stages, corpus, k=6)
    assert {name: row["reject_reason"] for name, row in rows.items()} == {
        "red-000.jpg": "",
        "red-001.jpg": "",
        "blank.png": "blank_mask",
        "just.png": "blank_mask",
        "white.png": "full_mask",
        "long.png": "too_elongated",
    }
    assert (rows["white.png"]["area"], rows["blank.png"]["area"]) == (1.0, 0.0)
    assert all(not row["counts"] for row in rows.values() if row["reject_reason"])
    [part] = stages.store.published("make_masks")
    assert part.counts == {
        "images": 6,
        "masks": 2,
        "rejects": {"blank_mask": 2, "full_mask": 1, "too_elongated": 1},
    }
    assert fake_selfmask.calls["images"] == 5  # the elongated one never reached it


@pytest.mark.parametrize("batch_size", [2, 3, 50])
def test_batches_of_equal_shape_give_the_same_rows(
    batch_size: int,
    stages: Stages,
    corpus: Path,
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus.mkdir()
    for seed in range(9):
        coloured_image("red", seed, [(48, 40), (40, 48), (60, 40)][seed % 3]).save(
            corpus / f"{seed}.png"
        )
    alone = masked(stages, corpus, k=9, batch_size=1)
    batches: list[int] = []
    predict = fake_selfmask.predict

    def counted(images):
        batches.append(len(images))
        return predict(images)

    monkeypatch.setattr(fake_selfmask, "predict", counted)
    assert masked(stages, corpus, k=9, batch_size=batch_size) == alone
    assert sorted(batches) == {2: [1, 1, 1, 2, 2, 2], 3: [3, 3, 3], 50: [3, 3, 3]}[batch_size]


def test_threads_change_no_byte(
    stages: Stages, corpus: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask, tmp_path: Path
) -> None:
    from storage.artifacts.store import ArtifactStore

    write_corpus(corpus, ["red"], each=9)
    files = []
    for threads in (1, 5):
        here = Stages(ArtifactStore(str(tmp_path / str(threads))))
        config = here.mask_config(threads=threads)
        part = here.mask(planned(here, corpus, config, k=9), config)
        files.append((part.key, part.files))
        ids = [row["image_id"] for row in rows_of(part, MASKS)]
        assert ids == sorted(ids)
    assert files[0] == files[1]


@pytest.mark.parametrize("fate", ["gone", "changed", "replaced"])
def test_an_image_that_is_not_as_it_was_indexed_stops_the_part(
    fate: str,
    stages: Stages,
    corpus: Path,
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
) -> None:
    paths = write_corpus(corpus, ["red"], each=4)
    config = stages.mask_config()
    plan = planned(stages, corpus, config, k=4)
    data = paths[2].read_bytes()
    paths[2].unlink()
    if fate != "gone":
        # `replaced` has as many bytes as before: only the hash tells.
        paths[2].write_bytes(data[:-1] + b"\0" if fate == "replaced" else data + b"\0")
    with pytest.raises(CorpusError, match=r"red-002\.jpg.*run the same command again"):
        stages.mask(plan, config)
    assert stages.store.published("make_masks") == []


def test_mask_size_has_limits(stages: Stages) -> None:
    for size in (31, 4097):
        with pytest.raises(ConfigError, match=f"mask_size is {size}"):
            stages.mask_config(mask_size=size)


def test_the_key_is_that_of_the_images_and_not_of_the_plan(
    stages: Stages, corpus: Path, fake_clip: FakeClip
) -> None:
    """The same images have the same masks for any vocabulary and in any store."""
    from tasks.stage.contract import PartOfPlan

    write_corpus(corpus, ["red", "blue"], each=3)
    config = stages.mask_config()
    index = stages.index(stages.scan(corpus))
    plans = [
        stages.plan_masks(stages.retrieve(index, names, 6), config)
        for names in (["red"], ["blue", "red"])
    ]
    refs = {plan.ref for plan in plans if plan is not None}
    assert len(refs) == 2
    keys = {make_masks.locate(config, PartOfPlan(ref, 0), stages.store).key for ref in refs}
    assert len(keys) == 1


def test_refinement_on_a_gpu_gives_the_masks_of_the_threads(
    stages: Stages,
    corpus: Path,
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The batched solver replaces the threads', as on a GPU."""
    write_corpus(corpus, ["red"], each=4)
    by_threads = masked(stages, corpus, k=4, batch_size=3)
    monkeypatch.setattr("tasks.masking.make_masks.VERSION", -1)
    batches: list[int] = []
    original = make_masks._predict

    def predict(batch: list, network: object, config: Config) -> Iterator[make_masks._Prediction]:
        predictions = list(original(batch, network, config))
        pixels = torch.from_numpy(np.stack([p.image.pixels for p in predictions]))
        masks = [torch.from_numpy(p.unrefined) for p in predictions]
        on_device = make_masks._refine_on_device(pixels.permute(0, 3, 1, 2), masks)
        batches.append(len(masks))
        for prediction, mask in zip(predictions, on_device, strict=True):
            yield replace(prediction, refined=mask)

    monkeypatch.setattr("tasks.masking.make_masks._predict", predict)
    assert masked(stages, corpus, k=4, batch_size=3) == by_threads
    assert batches == [3, 1]


def test_refinement_uses_the_original_or_the_references_image(
    stages: Stages,
    corpus: Path,
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_corpus(corpus, ["red"], each=1)
    seen: list[np.ndarray] = []

    def refine(image: np.ndarray, target: np.ndarray) -> np.ndarray:
        seen.append(image)
        return target.astype(np.float64)

    monkeypatch.setattr("zutis_model.refinement.bilateral_solver.refine_mask", refine)
    masked(stages, corpus, k=1)
    masked(stages, corpus, k=1, refine_input="reference")
    original, recovered = seen
    expected = denormalise(normalise(torch.from_numpy(original.copy()).permute(2, 0, 1)))
    np.testing.assert_array_equal(recovered, expected.permute(1, 2, 0).numpy())
    assert not np.array_equal(recovered, original)


def test_the_input_of_refinement_is_in_the_key_unless_it_is_the_original(stages: Stages) -> None:
    old = stages.mask_config().recipe
    assert "refine_input" not in old.config
    assert stages.mask_config(refine_input="original").recipe.key() == old.key()
    assert stages.mask_config(refine_input="reference").recipe.key() != old.key()
    with pytest.raises(ConfigError, match="refine_input is 'tensor'"):
        stages.mask_config(refine_input="tensor")


@pytest.mark.slow
def test_a_checkpoint_in_a_file_masks_a_photograph(
    stages: Stages, corpus: Path, fake_clip: FakeClip, tmp_path: Path
) -> None:
    """The same weights by recipe and from a file as published give the same mask."""
    corpus.mkdir()
    shutil.copy(Path(skimage.__file__).parent / "data" / "coffee.png", corpus)
    torch.save(load_selfmask().state_dict(), tmp_path / "published.pt")
    counts = {}
    for weights in ("random:0", str(tmp_path / "published.pt")):
        config = Config(selfmask=selfmask_model(weights, "cpu", "float32"), mask_size=160)
        [row] = rows_of(stages.mask(planned(stages, corpus, config, k=1), config), MASKS)
        assert row["reject_reason"] == ""
        counts[weights] = row["counts"]
    assert len(counts) == 2
    assert len(set(counts.values())) == 1


def several(stages: Stages, corpus: Path, k: int, **settings: Any) -> dict[str, list[dict]]:
    """Rows of the masks of all images, by file name."""
    config = stages.mask_config(objects="many", **settings)
    plan = planned(stages, corpus, config, k)
    names = {row["image_id"]: Path(row["uri"]).name for row in rows_of(plan, MASK_PLAN)}
    found: dict[str, list[dict]] = {name: [] for name in names.values()}
    for row in rows_of(stages.mask(plan, config), MASKS):
        found[names[row["image_id"]]].append(row)
    return found


def two_squares(apart: int) -> Image.Image:
    pixels = np.full((64, 128, 3), 255, dtype=np.uint8)
    pixels[10:26, 20:36] = (220, 30, 30)
    pixels[30:62, 36 + apart : 68 + apart] = (220, 30, 30)
    return Image.fromarray(pixels)


def test_an_image_has_a_mask_of_each_object(
    stages: Stages, corpus: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    corpus.mkdir()
    two_squares(apart=30).save(corpus / "two.png")
    coloured_image("red", 1, (64, 64)).save(corpus / "one.png")
    rows = several(stages, corpus, k=2, mask_size=64)
    large, small = rows["two.png"][:2]
    assert (large["object"], small["object"]) == (0, 1)
    truth = np.asarray(two_squares(apart=30)).sum(axis=2) < 700
    assert np.count_nonzero(pixels(large) & pixels(small)) == 0
    assert iou(pixels(large), truth & (np.arange(64) >= 28)[:, None]) > 0.8
    assert iou(pixels(small), truth & (np.arange(64) < 28)[:, None]) > 0.8
    assert all(row["components"] == 1 and row["part_of"] == -1 for row in (large, small))
    assert large["area"] == pytest.approx(pixels(large).mean(), rel=1e-6)
    assert large["objectness"] == pytest.approx(0.75)
    [part] = stages.store.published("make_masks")
    assert part.counts["images"] == 2
    assert part.counts["masks"] == sum(map(len, rows.values()))


def test_an_object_that_two_queries_show_has_one_mask(
    stages: Stages, corpus: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    """Both squares of the first query; the second one's small square is there already."""
    corpus.mkdir()
    two_squares(apart=30).save(corpus / "two.png")
    [rows] = several(stages, corpus, k=1, mask_size=64).values()
    masks = [pixels(row) for row in rows]
    assert all(iou(a, b) < 0.8 for at, a in enumerate(masks) for b in masks[:at])


def test_of_several_objects_an_image_without_any_has_a_row_with_the_reason(
    stages: Stages, corpus: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> None:
    corpus.mkdir()
    Image.new("RGB", (40, 40), (90, 40, 40)).save(corpus / "blank.png")
    speck = Image.new("RGB", (64, 64), (90, 40, 40))
    speck.putpixel((30, 30), (255, 255, 255))
    speck.save(corpus / "speck.png")
    Image.new("RGB", (400, 48), (240, 40, 40)).save(corpus / "long.png")
    rows = several(stages, corpus, k=3, mask_size=64)
    assert {name: [row["reject_reason"] for row in found] for name, found in rows.items()} == {
        "blank.png": ["blank_mask"],
        "speck.png": ["blank_mask"],
        "long.png": ["too_elongated"],
    }
    assert not any(row["counts"] for found in rows.values() for row in found)


def test_one_object_an_image_keeps_its_key_and_is_another_than_many(stages: Stages) -> None:
    one = stages.mask_config()
    assert "objects" not in one.recipe.config
    assert replace(one, objects="many").recipe.prefix != one.recipe.prefix
    with pytest.raises(ConfigError, match="objects"):
        replace(one, objects="few")
