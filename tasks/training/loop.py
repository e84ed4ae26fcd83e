"""The training loop, from the latest checkpoint to the last iteration.

The batch of iteration s has the samples s·B to s·B + B - 1, whichever process or worker makes them,
so that the number of finished steps also determines the loader's position.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from storage.errors.exceptions import ConfigError, ZutisError
from tasks.stage import stopping
from tasks.stage.contract import Progress
from tasks.training.allocator import keep_freed_memory
from tasks.training.log import TrainingLog
from tasks.training.processes import Processes
from tasks.training.state import TrainingStates
from tasks.training.step import StepResult, Trainer, TrainingBatch

log = logging.getLogger(__name__)

# This process's part of the batches from an iteration on; an error of a sample is yielded instead
# of its batch.
MakeBatches = Callable[[int], Generator[TrainingBatch | ZutisError]]


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """Settings of the loop, which don't affect the weights.

    Attributes:
        iterations: of the whole run.
        checkpoint_every: iterations between checkpoints.
    """

    iterations: int
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        if self.checkpoint_every < 1:
            raise ConfigError(f"checkpoint_every is {self.checkpoint_every}: choose 1 or more.")


def run_training(
    trainer: Trainer,
    make_batches: MakeBatches,
    states: TrainingStates,
    training_log: TrainingLog,
    settings: LoopSettings,
    progress: Progress,
) -> None:
    """Train to the end, from the latest checkpoint if there is one.

    On a CPU, a run that was killed at any moment and resumed ends with the same bits as one without
    interruption. On SIGTERM, SIGINT and SIGHUP the loop finishes the iteration, saves a checkpoint
    and stops. (Outside the main thread Python delivers no signals, and the last regular checkpoint
    is used.)

    Raises:
        ZutisError: a loss or gradient is not finite, a sample can't be read, a worker process was
            killed, the GPU's memory is too small, or a signal came. The latest checkpoint is kept.
    """
    keep_freed_memory(trainer.network.device.type)
    _Loop(trainer, states, training_log, settings, progress).run(make_batches)


class _Loop:
    def __init__(
        self,
        trainer: Trainer,
        states: TrainingStates,
        training_log: TrainingLog,
        settings: LoopSettings,
        progress: Progress,
    ) -> None:
        self._trainer = trainer
        self._states = states
        self._log = training_log
        self._settings = settings
        self._progress = progress
        self._saved = 0

    def run(self, make_batches: MakeBatches) -> None:
        self._resume()
        if self._done:
            return
        with (
            _noticing_signals(self._trainer.processes) as stop_requested,
            _naming_killed_workers(self._kept),
            closing(make_batches(self._trainer.steps_done)) as batches,
        ):
            self._learn(batches, stop_requested)

    def _learn(
        self, batches: Iterator[TrainingBatch | ZutisError], stop_requested: Callable[[], bool]
    ) -> None:
        while not self._done:
            self._learn_next(batches)
            if _any_process(self._trainer, stop_requested()):
                self._save()
                raise self._stopped_error()
            if self._trainer.steps_done % self._settings.checkpoint_every == 0:
                self._save()

    @property
    def _done(self) -> bool:
        return self._trainer.steps_done >= self._settings.iterations

    def _resume(self) -> None:
        state = self._states.latest()
        if state is not None:
            self._trainer.load_state_dict(state["trainer"])
            self._log.load_state_dict(state["log"])
            self._saved = self._trainer.steps_done
            log.info("going on after iteration %d of %d", self._saved, self._settings.iterations)
        _check_agreement(self._trainer)
        self._progress.advance(self._trainer.steps_done)

    def _learn_next(self, batches: Iterator[TrainingBatch | ZutisError]) -> None:
        started = time.monotonic()
        batch = next(batches)
        waited = time.monotonic() - started
        if isinstance(batch, ZutisError):
            self._save()
            raise batch
        at_once = self._trainer.micro_batch
        result = self._trainer.step(batch)
        if self._trainer.micro_batch < at_once:
            self._progress.warn(
                f"The GPU's memory is full: from now on the micro-batch has "
                f"{self._trainer.micro_batch} images, and gradients are accumulated."
            )
        if not result.is_finite:
            raise self._diverged(result)
        self._log.add(self._trainer.steps_done, result, batch, waited)
        self._progress.advance(1)
        self._progress.tell(self._log.remark)

    def _save(self) -> None:
        """Save a checkpoint, unless there is one of this iteration."""
        if self._trainer.processes.rank != 0 or self._trainer.steps_done <= self._saved:
            return
        content = {"trainer": self._trainer.state_dict(), "log": self._log.state_dict()}
        self._states.save(self._trainer.steps_done, content)
        self._saved = self._trainer.steps_done

    def _stopped_error(self) -> ZutisError:
        return ZutisError(
            f"Training was stopped after iteration {self._trainer.steps_done} of "
            f"{self._settings.iterations}; the same command goes on from there."
        )

    def _kept(self) -> str:
        if not self._saved:
            return "there is no checkpoint yet"
        return f"the same command goes on from the checkpoint after iteration {self._saved}"

    def _diverged(self, result: StepResult) -> ZutisError:
        kept = "there is no checkpoint yet"
        if self._saved:
            kept = f"the checkpoint after iteration {self._saved} is kept in {self._states.folder}"
        return ZutisError(
            f"Training diverged at iteration {self._trainer.steps_done + 1}: the loss is "
            f"{result.loss:g} (semantic {result.ce_loss:g}, masks {result.mask_loss:g}) and its "
            f"gradient's norm {result.gradient_norm:g}; {kept}; lower the learning rate, or set a "
            "maximal gradient norm."
        )


def _any_process(trainer: Trainer, condition: bool) -> bool:
    """Whether the condition holds in any process; all have to stop after the same iteration."""
    return _summed(trainer.processes, trainer, float(condition)) > 0


def _check_agreement(trainer: Trainer) -> None:
    """Check that all processes have loaded the same checkpoint."""
    total = _summed(trainer.processes, trainer, float(trainer.steps_done))
    if total != trainer.steps_done * trainer.processes.size:
        raise ZutisError(
            "The processes found different checkpoints: give all machines the same --store."
        )


def _summed(processes: Processes, trainer: Trainer, value: float) -> float:
    if processes.size == 1:
        return value
    import torch

    values = torch.tensor([value], dtype=torch.float64, device=trainer.network.device)
    return float(processes.sum(values))


@contextmanager
def _noticing_signals(processes: Processes) -> Iterator[Callable[[], bool]]:
    """Inside the block, a first SIGTERM, SIGINT or SIGHUP is only recorded; the yielded function
    returns whether one came. Further ones have their former effect, except under torchrun, which
    repeats to its processes the signals that they received themselves."""
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before: dict[int, Any] = {}

    def notice(number: int, frame: FrameType | None) -> None:
        again = came.is_set() and processes.size == 1
        came.set()
        if again and callable(before[number]):
            before[number](number, frame)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number.value] = signal.signal(number, notice)
    try:
        with stopping.finishing():
            yield came.is_set
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def _naming_killed_workers(kept: Callable[[], str]) -> Iterator[None]:
    """Turn torch's error about a killed worker, raised anywhere in the block, into a ZutisError."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ZutisError(
            "A worker process that makes training samples has died, probably because memory, or a "
            f"container's shared memory, ran out: use fewer workers, or --set workers=0; {kept()}."
        ) from error
