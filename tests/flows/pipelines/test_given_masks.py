"""`--masks`: labels from masks that a user has, named by retrieval or by CLIP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.pipelines.build import Build
from flows.summaries.build import summarise
from storage.shards.samples import ShardSamples
from tasks.stage.layout import CARD, MASKS
from tests.support.files.coloured_images import write_corpus
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import (
    build_cached,
    build_here,
    rows_of,
    settings_of,
    write_vocabulary,
)

NAMES = ["red", "green"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus", NAMES, each=3)
    return tmp_path / "corpus"


@pytest.fixture
def given(corpus: Path, tmp_path: Path) -> Path:
    """A PNG for each image, with two objects: a bar at the top and a larger one at the bottom."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for path in corpus.iterdir():
        with Image.open(path) as image:
            values = np.zeros(image.size[::-1], np.uint8)
        values[:4], values[-9:] = 1, 2
        Image.fromarray(values).save(folder / f"{path.stem}.png")
    return folder


@pytest.fixture
def run(
    corpus: Path, tmp_path: Path, fake_clip: FakeClip, fake_selfmask: FakeSelfMask
) -> Callable[..., Build]:
    vocabulary = write_vocabulary(tmp_path / "v.txt", NAMES)

    def run(**changes: Any) -> Build:
        return build_here(settings_of(corpus, vocabulary, tmp_path / "store", **changes))

    return run


def test_the_largest_mask_of_each_image_is_its_label(
    run: Callable[..., Build], given: Path, fake_selfmask: FakeSelfMask
) -> None:
    built = run(masks=str(given))
    assert fake_selfmask.calls["images"] == 0
    samples = ShardSamples.open(built.dataset)
    assert len(samples) == 6
    for at in range(len(samples)):
        mask = samples.decode_object(at, samples.read(at))
        assert mask[-9:].all()
        assert not mask[:-9].any()
    card = Path(built.dataset.location.removeprefix("file://"), CARD).read_text()
    assert "have masks that\nthe build was given" in card
    assert "SelfMask" not in card


def test_images_without_a_usable_mask_are_left_out_with_the_reason(
    run: Callable[..., Build], given: Path
) -> None:
    first, second, third, *_ = sorted(given.iterdir())
    first.unlink()
    Image.new("L", (5, 5), 1).save(second)
    third.write_bytes(b"no image")
    built = run(masks=str(given))
    reasons = {
        row["reject_reason"]
        for ref in built.record.store.published("make_masks")
        for row in rows_of(ref, MASKS)
    }
    assert reasons == {"", "no_given_mask", "mask_of_other_size", "unreadable_mask"}
    assert len(ShardSamples.open(built.dataset)) == 3
    assert summarise(built, []).rejects["no_given_mask"] == 1


def test_the_same_again_is_found_and_other_masks_make_other_labels(
    run: Callable[..., Build], corpus: Path, given: Path, tmp_path: Path
) -> None:
    built = run(masks=str(given))
    settings = settings_of(corpus, tmp_path / "v.txt", tmp_path / "store", masks=str(given))
    assert build_cached(settings).record.ref == built.record.ref
    plain = run()
    assert plain.dataset.ref != built.dataset.ref
    first = min(given.iterdir())
    with Image.open(first) as image:
        values = np.asarray(image).copy()
    values[-20:] = 2
    Image.fromarray(values).save(first)
    assert run(masks=str(given)).dataset.ref not in (built.dataset.ref, plain.dataset.ref)
