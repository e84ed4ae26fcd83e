"""The keys of a small build, training and evaluation, as they have always been.

A changed key invalidates the artifacts in users' stores. An intended change raises the stage's
version, and its new keys go into the table here. The corpus has a fixed address and fixed times,
and the networks are fakes, so that no key depends on the machine. (The bytes of shards do: masks
come from floating-point arithmetic.)
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import fsspec
import pytest

from flows.execution.executors import LocalExecutor
from flows.pipelines.training import evaluate_model, trained_model
from flows.settings.build import BuildSettings
from flows.settings.evaluation import EvaluationSettings
from storage.artifacts.store import ArtifactStore
from tests.support.files.coloured_images import coloured_image
from tests.support.files.evaluation_layouts import annotation, box, write_coco
from tests.support.networks.fakes import FakeClip, FakeSelfMask
from tests.support.runs.builds import (
    CLIP,
    artifacts_by_stage,
    build_here,
    small_training,
    train_here,
)

CORPUS = "memory://keys/images"
KEYS = {
    "scan": ["f8f8fb61d89a67ef324f-a4dcc37e50c1552d0f2c"],
    "embed_images": [
        "74cba598b52fe3262986-1126ffba9a4e48d99b67",
        "74cba598b52fe3262986-56e0aea4873303c58277",
        "74cba598b52fe3262986-9ea8ffa27e6959824c54",
    ],
    "build_index": ["2ce830f39da53aafa173-4f53cda18c2baa0c0354"],
    "embed_text": ["715ec2dade88f3ee9452-5263817e15a9f4a8a557"],
    "search_index": ["88c38331b2b0745090a3-6eec27d84ba177b12bd2"],
    "estimate_evidence": ["1b1f15056dbc24192032-9288074755850ee12f6d"],
    "retrieve": ["cb10fa8859e27408f4ca-9288074755850ee12f6d"],
    "plan_masks": ["b9b048d76ac96241b449-035a519a135cd7b15481"],
    "make_masks": [
        "c680309a51bf9809be3b-2f13cf255417e7012e5a",
        "c680309a51bf9809be3b-e5e4927832448d5fff33",
        "c680309a51bf9809be3b-ec0e13ff952294582d53",
    ],
    "plan_shards": ["c830d05d215691ed05d6-8d29882b7549ac0a0593"],
    "pack_shards": ["942b14cc26a6a6eb4627-918f25246e18113e27f4"],
    "assemble_dataset": ["8c6c0a475227b5116a05-4f53cda18c2baa0c0354"],
    "record_build": ["74a355fac71f2edbd835-4f53cda18c2baa0c0354"],
    "train": ["c9472fde9e9290c42331-4f53cda18c2baa0c0354"],
    "evaluate": [
        "1c58810ba2ab8c4f8f98-4f53cda18c2baa0c0354",
        "dcdd5ecd02da2e43a0cd-4f53cda18c2baa0c0354",
    ],
}


@pytest.fixture
def corpus() -> Iterator[str]:
    """Twelve images in memory with equal times, in a format without compression."""
    remote = fsspec.filesystem("memory")
    for number, colour in enumerate(["red", "green", "blue"] * 4):
        content = BytesIO()
        coloured_image(colour, number).save(content, "PNG", compress_level=0)
        path = f"{CORPUS}/{colour}-{number:02}.png"
        remote.pipe_file(path, content.getvalue())
        remote.store[remote._strip_protocol(path)].created = datetime(2026, 1, 2, tzinfo=UTC)
    yield CORPUS
    remote.rm(CORPUS, recursive=True)


@pytest.fixture
def evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvaluationSettings:
    monkeypatch.chdir(tmp_path)
    file = Path("scenes") / "annotations.json"
    write_coco(
        file,
        Path("scenes"),
        {"a.png": (64, 80), "b.png": (70, 64)},
        [annotation(1, 1, box(5, 5, 30, 30), area=625.0)],
        {1: "red", 2: "green", 3: "blue"},
    )
    return EvaluationSettings(on=f"coco:{file}", maskclip=CLIP, image_size=64)


@pytest.mark.slow
def test_keys_stay_as_they_are(
    corpus: str,
    vocabulary: Path,
    evaluation: EvaluationSettings,
    tmp_path: Path,
    fake_clip: FakeClip,
    fake_selfmask: FakeSelfMask,
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    build_here(
        BuildSettings(
            corpus=(corpus,), vocabulary=str(vocabulary), per_category=4, clip=CLIP,
            selfmask="random:0", mask_size=40, part_images=5, mask_part_images=5,
            store=store.root, device="cpu",
        )
    )  # fmt: skip
    training = train_here(store.root, small_training(iterations=2))
    evaluate_model(evaluation, trained_model(training), LocalExecutor(store))
    found = {stage: sorted(keys) for stage, keys in artifacts_by_stage(store.root).items()}
    assert found == KEYS
