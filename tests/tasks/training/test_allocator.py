"""Freed memory stays in a process that trains on a CPU, which changes nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tasks.clip_training.loop import ClipTrainingConfig, train_clip_model
from tasks.saliency_training.training import SelfMaskTrainingConfig, new_selfmask, train_on_batches
from tasks.training.allocator import keep_freed_memory

ROOT = Path(__file__).parents[3]
HAS_GLIBC = hasattr(os, "confstr") and "glibc" in str(os.confstr("CS_GNU_LIBC_VERSION"))
BY_HAND = {"MALLOC_TRIM_THRESHOLD_": "131072"}

FAULTS = """
import resource, sys
from tasks.training.allocator import keep_freed_memory

made = keep_freed_memory("cpu")
size = int(sys.argv[1]) << 20
def faults():
    pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * size
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - pages
faults()
print(made, faults() < 100)
"""


def environment(extra: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return {**kept, "OMP_NUM_THREADS": "1"} | extra


def shown(code: str, *arguments: str, **extra: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(extra), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(not HAS_GLIBC, reason="other allocators are left alone")
@pytest.mark.parametrize("megabytes", ["1", "60"])
def test_memory_that_is_freed_is_used_again_without_a_page_fault(megabytes: str) -> None:
    assert shown(FAULTS, megabytes) == "True True"


@pytest.mark.skipif(not HAS_GLIBC, reason="other allocators are left alone")
def test_the_users_own_settings_win() -> None:
    assert shown(FAULTS, "60", **BY_HAND) == "False False"


@pytest.mark.parametrize(
    ("device", "variables"),
    [
        ("cuda", {}),
        ("cpu", {"MALLOC_MMAP_MAX_": "65536"}),
        ("cpu", {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=65536"}),
    ],
)
def test_nothing_is_set_for_gpus_or_beside_the_users_settings(
    device: str, variables: dict[str, str]
) -> None:
    assert not keep_freed_memory(device, variables)


@pytest.mark.parametrize("answer", [None, "musl 1.2", ValueError("unrecognized name")])
def test_nothing_is_set_without_glibc(monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    def confstr(name: str) -> object:
        if isinstance(answer, ValueError):
            raise answer
        return answer

    monkeypatch.setattr(os, "confstr", confstr)
    assert not keep_freed_memory("cpu", {})


# --- the trainings ------------------------------------------------------------------------------


class Called(Exception):  # noqa: N818 - no error
    pass


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Types of devices for which the settings were made; the training ends there."""
    found: list[str] = []

    def record(device: str) -> bool:
        found.append(device)
        raise Called

    for module in ("training.loop", "clip_training.loop", "saliency_training.training"):
        monkeypatch.setattr(f"tasks.{module}.keep_freed_memory", record)
    return found


def test_every_training_makes_the_settings(devices: list[str], tmp_path: Path) -> None:
    from storage.artifacts.store import ArtifactStore
    from tests.support.runs.small_training import small_trainer, train
    from zutis_model.clip.own_architectures import make_tokenizer
    from zutis_model.training.contrastive import new_clip

    with pytest.raises(Called):
        train(ArtifactStore(str(tmp_path)), small_trainer())
    model = new_clip("made-ViT-8", 0, image_size=16)
    with pytest.raises(Called):
        train_clip_model(
            model, make_tokenizer("made-ViT-8"), iter([]), ClipTrainingConfig(steps=1), print
        )
    network = new_selfmask(
        width=32, encoder_layers=1, decoder_layers=1, queries=2, image_size=48, seed=0
    )
    with pytest.raises(Called):
        train_on_batches(network, iter([]), SelfMaskTrainingConfig(steps=1), print)
    assert devices == ["cpu"] * 3


@pytest.mark.slow
@pytest.mark.skipif(not HAS_GLIBC, reason="other allocators are left alone")
def test_a_training_gives_the_same_bytes_with_and_without(tmp_path: Path) -> None:
    results = []
    for name, extra in (("with", {}), ("without", BY_HAND)):
        folder = tmp_path / name
        folder.mkdir()
        command = [sys.executable, "-m", "tests.support.runs.small_training", str(folder)]
        subprocess.run(command, cwd=ROOT, env=environment(extra), check=True)
        weights = torch.load(folder / "weights.pt", weights_only=True)
        results.append((weights, (folder / "training.csv").read_bytes()))
    (weights, table), (expected, expected_table) = results
    assert table == expected_table
    for states in zip(weights, expected, strict=True):
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
