"""The loop of training: batch after batch, from the latest checkpoint to the last iteration.

The batch of iteration s has the samples s·B to s·B + B - 1, whatever process or worker makes them,
so that the number of steps done says where the loader stands, too.
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
from tasks.training.log import TrainingLog
from tasks.training.processes import Processes
from tasks.training.state import TrainingStates
from tasks.training.step import StepResult, Trainer, TrainingBatch

log = logging.getLogger(__name__)

# The batches from an iteration on, of this process's part; an error that a sample met is yielded
# in its batch's place.
MakeBatches = Callable[[int], Generator[TrainingBatch | ZutisError]]


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How a run keeps itself safe. None of it decides the weights.

    Attributes:
        iterations: where it ends.
        checkpoint_every: iterations from checkpoint to checkpoint.
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

    Killed at any moment and run again, it ends on a CPU with the very bits of a run that nobody
    disturbed. On SIGTERM, SIGINT and SIGHUP it ends the iteration, keeps a checkpoint and stops.
    (Where it does not run in the main thread, Python gives it no signals, and the last regular
    checkpoint has to do.)

    Raises:
        ZutisError: a loss or gradient is not finite, a sample can't be read, a worker process was
            killed, the GPU is too small, or a signal came. The latest checkpoint is kept.
    """
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
            _noticing_signals(self._trainer.processes) as told_to_stop,
            _naming_killed_workers(self._kept),
            closing(make_batches(self._trainer.steps_done)) as batches,
        ):
            self._learn(batches, told_to_stop)

    def _learn(
        self, batches: Iterator[TrainingBatch | ZutisError], told_to_stop: Callable[[], bool]
    ) -> None:
        while not self._done:
            self._learn_next(batches)
            if _any_process(self._trainer, told_to_stop()):
                self._save()
                raise self._told_to_stop()
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
                f"The GPU's memory is full: {self._trainer.micro_batch} images of a batch are "
                "learned at once from here on, and their gradients added up."
            )
        if not result.is_finite:
            raise self._diverged(result)
        self._log.add(self._trainer.steps_done, result, batch, waited)
        self._progress.advance(1)
        self._progress.tell(self._log.remark)

    def _save(self) -> None:
        """Keep a checkpoint, unless the latest is of this very iteration."""
        if self._trainer.processes.rank != 0 or self._trainer.steps_done <= self._saved:
            return
        content = {"trainer": self._trainer.state_dict(), "log": self._log.state_dict()}
        self._states.save(self._trainer.steps_done, content)
        self._saved = self._trainer.steps_done

    def _told_to_stop(self) -> ZutisError:
        return ZutisError(
            f"Training was told to stop after iteration {self._trainer.steps_done} of "
            f"{self._settings.iterations}; the same command goes on from there."
        )

    def _kept(self) -> str:
        if not self._saved:
            return "no checkpoint was kept yet"
        return f"the same command goes on from the checkpoint after iteration {self._saved}"

    def _diverged(self, result: StepResult) -> ZutisError:
        kept = f"the checkpoint after iteration {self._saved} is" if self._saved else "none is yet"
        return ZutisError(
            f"Training stopped at iteration {self._trainer.steps_done + 1}: the loss is "
            f"{result.loss:g} (semantic {result.ce_loss:g}, masks {result.mask_loss:g}) and its "
            f"gradient's norm {result.gradient_norm:g}; {kept} kept in {self._states.folder}; "
            "lower the learning rate, or limit the gradient's norm."
        )


def _any_process(trainer: Trainer, condition: bool) -> bool:
    """Whether the condition holds in any process: they have to stop after the same iteration."""
    return _summed(trainer.processes, trainer, float(condition)) > 0


def _check_agreement(trainer: Trainer) -> None:
    """All processes must have found the same checkpoint."""
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
    """Inside, a first SIGTERM, SIGINT or SIGHUP ends nothing; the function that is yielded tells
    whether one came. Further ones do what they did before, unless torchrun sends them: it passes
    on to its processes what they got themselves."""
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
    """torch reports the death of a process that makes samples from wherever the main one is."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ZutisError(
            "A process that makes training samples has died, most likely because memory, or a "
            f"container's shared memory, ran out: use fewer workers, or --set workers=0; {kept()}."
        ) from error
