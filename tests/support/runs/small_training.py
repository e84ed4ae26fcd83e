"""Training that takes a second: a small network on synthetic samples, here or in a process.

As a program it trains in a folder and writes the last weights there; it can be made to kill
itself in the middle, as only a real process can.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from storage.artifacts.store import ArtifactRef, ArtifactStore
from storage.errors.exceptions import ZutisError
from tasks.stage.contract import SilentProgress
from tasks.training.batches import batches_from
from tasks.training.log import TrainingLog
from tasks.training.loop import LoopSettings, run_training
from tasks.training.processes import Processes, joined_processes
from tasks.training.state import TrainingStates
from tasks.training.step import Optimisation, Trainer
from tests.support.runs.training_samples import CATEGORIES, IGNORE, Batch, Samples, collate
from zutis_model.clip.towers import Clip, load_clip
from zutis_model.layers.precision import Precision
from zutis_model.zutis.initialisation import initialise_zutis

ARCHITECTURE = "made-ViT-8"
REF = ArtifactRef("train", "small")


def batch_of(*numbers: int) -> Batch:
    samples = Samples()
    return collate([samples[number] for number in numbers])


@cache
def small_clip(architecture: str) -> Clip:
    return load_clip(architecture, seed=0)


def text_embeddings(width: int) -> Tensor:
    drawn = torch.randn(CATEGORIES, width, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(drawn, dim=-1)


def small_trainer(
    *,
    architecture: str = ARCHITECTURE,
    micro_batch: int | None = None,
    processes: Processes | None = None,
    precision: Precision = "float32",
    **recipe: Any,
) -> Trainer:
    clip = small_clip(architecture)
    network = initialise_zutis(
        clip,
        architecture,
        num_queries=6,
        num_decoder_layers=2,
        num_heads=4,
        precision=precision,
    )
    optimisation = Optimisation(**({"iterations": 6, "batch_size": 2} | recipe))
    return Trainer(
        network,
        text_embeddings(clip.embedding_dim),
        optimisation,
        ignore_index=IGNORE,
        micro_batch=micro_batch,
        processes=processes,
    )


class CountingProgress(SilentProgress):
    """Calls `at_step` with the number of steps after each."""

    def __init__(self, at_step: Any = lambda steps: None) -> None:
        self.steps = 0
        self._at_step = at_step

    def advance(self, amount: int = 1, *, rejected: str = "", **counts: int) -> None:
        self.steps += amount
        self._at_step(self.steps)


def train(
    store: ArtifactStore,
    trainer: Trainer,
    samples: Samples | None = None,
    *,
    iterations: int = 6,
    batch_size: int = 2,
    checkpoint_every: int = 2,
    workers: int = 0,
    progress: Any = None,
) -> TrainingLog:
    """`run_training` in a store."""
    training_log = TrainingLog(trainer.text_embeddings, IGNORE, iterations=iterations, every=4)

    def make_batches(first_iteration: int) -> Generator[Any]:
        return batches_from(
            samples or Samples(),
            collate,
            first_iteration=first_iteration,
            iterations=iterations,
            batch_size=batch_size,
            processes=trainer.processes,
            workers=workers,
        )

    run_training(
        trainer,
        make_batches,
        TrainingStates(store, REF),
        training_log,
        LoopSettings(iterations=iterations, checkpoint_every=checkpoint_every),
        progress or CountingProgress(),
    )
    return training_log


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--signal", type=signal.Signals.__getitem__)
    parser.add_argument("--at-step", type=int, default=-1)
    parser.add_argument("--while-saving", type=int, default=-1)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)

    def send(steps: int) -> None:
        if steps == options.at_step:
            os.kill(os.getpid(), options.signal)

    if options.while_saving > 0:
        _kill_while_saving(options.while_saving)
    with joined_processes("cpu", 2) as (processes, _):
        trainer = small_trainer(processes=processes, ema_decay=0.5, max_gradient_norm=1.0)
        try:
            training_log = train(
                ArtifactStore(str(options.folder)),
                trainer,
                workers=options.workers,
                progress=CountingProgress(send),
            )
        except ZutisError as error:
            sys.exit(str(error))
        if processes.rank == 0:
            content = [trainer.network.state_dict(), trainer.trained_weights()]
            torch.save(content, options.folder / "weights.pt")
            (options.folder / "training.csv").write_bytes(training_log.csv())


def _kill_while_saving(number: int) -> None:
    """SIGKILL when that many checkpoints are written but not yet under their name."""
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = fsync


if __name__ == "__main__":
    main()
