"""The log of a training run: a table of scalars, lines in the program's log, TensorBoard.

The table is part of the artifact and of the checkpoints, so that a resumed run has all of it. It
contains nothing that depends on the clock: times go only to the log and to TensorBoard.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.files.filesystems import translated_errors

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.training.step import StepResult, TrainingBatch

COLUMNS = (
    "step",
    "loss",
    "ce_loss",
    "mask_loss",
    "gradient_norm",
    "learning_rate",
    "encoder_learning_rate",
    "mean_iou",
    "pixel_accuracy",
)
_CROPS = 4
# Decay, per row, of the confusion matrix of earlier crops.
_MEMORY = 0.9

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Preview:
    """The first training crops of the latest row, on the CPU.

    Attributes:
        images: float32 [n, 3, h, w], normalised.
        labels: int32 [n, h, w], the pseudo-labels.
        predictions: int32 [n, h, w].
    """

    images: Tensor
    labels: Tensor
    predictions: Tensor


class TrainingLog:
    """Collects the results of steps, and writes a row every `every` steps.

    Losses and gradient norm of a row are means since the previous row. `mean_iou` and
    `pixel_accuracy` (0 to 1) compare predictions with pseudo-labels on the row's own training crops
    and, with a weight that decays by a tenth per row, on those of earlier rows.

    Args:
        text_embeddings: float32 [k, d] on the network's device, row 0 the background.
        ignore_index: label of ignored pixels.
        iterations: of the whole run.
        every: iterations between rows.
        tensorboard: local folder for TensorBoard's events; None for no events, as without the
            package.
        silent: write no lines to the log; for all but the first of several processes.
    """

    def __init__(
        self,
        text_embeddings: Tensor,
        ignore_index: int,
        *,
        iterations: int,
        every: int,
        tensorboard: str | None = None,
        silent: bool = False,
    ) -> None:
        from zutis_model.scores.segmentation_metrics import ConfusionMatrix

        self.rows: list[list[float]] = []
        self.preview: Preview | None = None
        self.remark = ""
        """The latest row in words."""
        self._texts = text_embeddings
        self._confusion = ConfusionMatrix(len(text_embeddings), ignore_index)
        self._iterations = iterations
        self._every = every
        self._log_level = logging.DEBUG if silent else logging.INFO
        self._sums = [0.0] * 4
        self._steps = 0
        self._speed = _Speed()
        self._tensorboard = _tensorboard_writer(tensorboard)

    def add(self, step: int, result: StepResult, batch: TrainingBatch, waited: float) -> None:
        """Add one step.

        Args:
            step: number of finished steps, this one included.
            result: of the step.
            batch: of the step.
            waited: seconds until the batch was available.
        """
        values = (result.loss, result.ce_loss, result.mask_loss, result.gradient_norm)
        self._sums = [total + value for total, value in zip(self._sums, values, strict=True)]
        self._steps += 1
        self._speed.add(len(batch.images), waited)
        if step % self._every == 0 or step == self._iterations:
            self._end_row(step, result, batch)

    def csv(self) -> bytes:
        """The table, with a header."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for step, *values in self.rows:
            writer.writerow([int(step), *(f"{value:.7g}" for value in values)])
        return text.getvalue().encode()

    def last_row(self) -> dict[str, float]:
        """The latest row by column, without undefined values."""
        row = dict(zip(COLUMNS, self.rows[-1], strict=True))
        return {name: value for name, value in row.items() if math.isfinite(value)}

    @property
    def speed(self) -> dict[str, float]:
        """Of this process's steps: `samples_per_second`, and `waiting`, the share of the time spent
        waiting for samples."""
        return self._speed.facts()

    def state_dict(self) -> dict[str, Any]:
        import torch

        # `pictures` is the preview, under the key of earlier checkpoints.
        return {
            "rows": self.rows,
            "sums": self._sums,
            "steps": self._steps,
            "confusion": torch.from_numpy(self._confusion.matrix.copy()),
            "pictures": None if self.preview is None else vars(self.preview),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]
        self._sums, self._steps = state["sums"], state["steps"]
        self._confusion.matrix = np.array(state["confusion"])
        self.preview = Preview(**state["pictures"]) if state["pictures"] else None

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()

    def _end_row(self, step: int, result: StepResult, batch: TrainingBatch) -> None:
        self._count_pixels(result, batch)
        scores = self._confusion.scores()
        means = [total / self._steps for total in self._sums]
        row = [step, *means, *result.learning_rates, scores.mean_iou, scores.pixel_accuracy]
        self.rows.append(row)
        self._sums, self._steps = [0.0] * len(self._sums), 0
        self._tell(dict(zip(COLUMNS, row, strict=True)))

    def _count_pixels(self, result: StepResult, batch: TrainingBatch) -> None:
        import torch

        from zutis_model.zutis.semantic_prediction import semantic_labels

        height, width = batch.semantic_masks.shape[1:]
        predictions = torch.cat(
            [
                semantic_labels(tokens, self._texts, (height, width)).cpu()
                for tokens in result.tokens
            ]
        )
        labels = batch.semantic_masks.cpu()
        self._confusion.matrix = (self._confusion.matrix * _MEMORY).astype(np.int64)
        self._confusion.update(labels, predictions)
        self.preview = Preview(
            images=batch.images[:_CROPS].cpu().clone(),
            labels=labels[:_CROPS].to(torch.int32),
            predictions=predictions[:_CROPS].to(torch.int32),
        )

    def _tell(self, row: dict[str, float]) -> None:
        step = int(row["step"])
        speed = self.speed
        self.remark = (
            f"loss {row['loss']:.4f} (semantic {row['ce_loss']:.4f}, masks "
            f"{row['mask_loss']:.4f}), "
            f"mean IoU on training crops {row['mean_iou']:.3f}, "
            f"{speed['samples_per_second']:.1f} samples/s, {100 * speed['waiting']:.0f} % waiting"
        )
        left = _duration((self._iterations - step) * self._speed.seconds_per_step)
        log.log(
            self._log_level, "iteration %d of %d: %s, %s left", step, self._iterations,
            self.remark, left,
        )  # fmt: skip
        if self._tensorboard is not None:
            for name, value in [*list(row.items())[1:], *speed.items()]:
                self._tensorboard.add_scalar(name, value, step)


class _Speed:
    """Samples per second and waiting times; the first step, which starts workers and compiles, is
    left out as soon as there is another."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first = True
        self._steps, self._samples, self._seconds, self._waited = 0, 0, 0.0, 0.0

    def add(self, samples: int, waited: float) -> None:
        now = time.monotonic()
        if self._steps == 1 and self._first:
            self._first = False
            self._steps, self._samples, self._seconds, self._waited = 0, 0, 0.0, 0.0
        self._steps += 1
        self._samples += samples
        self._seconds += now - self._started
        self._waited += waited
        self._started = now

    @property
    def seconds_per_step(self) -> float:
        return self._seconds / max(self._steps, 1)

    def facts(self) -> dict[str, float]:
        seconds = max(self._seconds, 1e-9)
        return {
            "samples_per_second": round(self._samples / seconds, 3),
            "waiting": round(self._waited / seconds, 4),
        }


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _tensorboard_writer(folder: str | None) -> Any:
    """A writer, or None where TensorBoard is not installed or not wanted."""
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    with translated_errors("write", folder):
        return SummaryWriter(folder)
