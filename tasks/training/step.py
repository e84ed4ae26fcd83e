"""One training step: losses and gradients of a whole batch, accumulated over micro-batches.

The recipe is that of the ZUTIS paper and of the reference's `utils/utils.py`: AdamW, the encoder
at a tenth of the learning rate, polynomial decay.

Micro-batches and several processes give the gradients of the whole batch. The mask loss is a sum
over images divided by their number, and the cross entropy a mean over the pixels that are not
ignored; so a micro-batch's mask loss is weighted by its share of the batch's images, and its cross
entropy by its share of the batch's counted pixels. Gradients are then equal up to the order of
floating-point additions. (With bfloat16 they are only close, because matrix products of another
shape may round differently.)

Dimensions:
    b     images of a batch, or of one process's part of it
    h, w  rows, columns of a training crop
    k     categories, the background included
    d     width of the text embeddings
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from storage.errors.exceptions import ConfigError, ZutisError
from storage.errors.numbers import check_numbers
from tasks.training.processes import Processes

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from zutis_model.zutis.network import Zutis

log = logging.getLogger(__name__)


class TrainingBatch(Protocol):
    """The batch of a step; see `tasks.training.samples`.

    Attributes:
        images: float32 [b, 3, h, w], normalised.
        semantic_masks: int64 [b, h, w], 0 to k - 1 or the label of ignored pixels.
        instance_masks: b of bool [n, h, w], each with its own n.
        object_weights: b of float32 [n], factors of the instances' losses; None: no factors.
    """

    images: Tensor
    semantic_masks: Tensor
    instance_masks: Sequence[Tensor]
    object_weights: Sequence[Tensor] | None


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """Hyperparameters of the optimisation, all of which affect the weights.

    Attributes:
        iterations: optimiser steps.
        batch_size: samples per step, over all processes and micro-batches.
        learning_rate: initial one, of all weights but the encoder's.
        encoder_factor: ratio of the encoder's learning rate to `learning_rate`.
        weight_decay: AdamW's.
        power: of the polynomial decay.
        min_learning_rate: lower limit of both learning rates.
        max_gradient_norm: gradients are clipped to it; None: not clipped.
        muon_factor: train matrices inside blocks with Muon, at this multiple of the learning rates;
            None: with AdamW, as in the paper.
        ema_decay: publish an exponential moving average of the weights with this decay; None: the
            last weights.
        ce_weight, mask_weight, dice_weight, bce_weight, ce_scale: of the losses, see
            `zutis_model.training.criterion.LossWeights`.
    """

    iterations: int = 20_000
    batch_size: int = 8
    learning_rate: float = 5e-5
    encoder_factor: float = 0.1
    weight_decay: float = 0.05
    power: float = 0.9
    min_learning_rate: float = 1e-6
    max_gradient_norm: float | None = None
    muon_factor: float | None = None
    ema_decay: float | None = None
    ce_weight: float = 1.0
    mask_weight: float = 1.0
    dice_weight: float = 1.0
    bce_weight: float = 1.0
    ce_scale: float = 1.0

    def __post_init__(self) -> None:
        check_numbers(self)
        for name in ("iterations", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: choose 1 or more.")
        for name in ("learning_rate", "encoder_factor", "power", "max_gradient_norm",
                     "muon_factor", "ce_scale"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} is {value}: choose a number above 0.")
        for name in ("weight_decay", "min_learning_rate", "ce_weight", "mask_weight",
                     "dice_weight", "bce_weight"):  # fmt: skip
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}: choose 0 or more.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"ema_decay is {self.ema_decay}: choose a number between 0 and 1.")


@dataclass(frozen=True, eq=False)
class StepResult:
    """The result of a step.

    Attributes:
        loss, ce_loss, mask_loss: of the whole batch, over all processes.
        gradient_norm: of the whole batch, before clipping.
        learning_rates: of the step: of the other weights, of the encoder.
        tokens: of this process's images, per micro-batch: float32 [., rows, columns, d].
    """

    loss: float
    ce_loss: float
    mask_loss: float
    gradient_norm: float
    learning_rates: tuple[float, float]
    tokens: tuple[Tensor, ...]

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are finite; if not, the weights were not updated."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


class Trainer:
    """A network with its optimisers, schedules and moving average.

    Args:
        network: in training mode, on its device.
        text_embeddings: float32 [k, d], unit rows, row 0 the background; frozen.
        optimisation: the hyperparameters.
        ignore_index: label of ignored pixels.
        micro_batch: images per forward and backward pass of a process; None, or more than its part
            of the batch: all of that.
        processes: of the distributed training.

    Attributes:
        steps_done: number of finished steps.
        micro_batch: halved whenever the GPU runs out of memory.
    """

    def __init__(
        self,
        network: Zutis,
        text_embeddings: Tensor,
        optimisation: Optimisation,
        *,
        ignore_index: int,
        micro_batch: int | None = None,
        processes: Processes | None = None,
    ) -> None:
        from zutis_model.training.criterion import LossWeights
        from zutis_model.training.poly_schedule import PolySchedule

        self.network = network
        self.text_embeddings = text_embeddings.to(network.device)
        self.ignore_index = ignore_index
        self.processes = processes or Processes()
        self.steps_done = 0
        share = len(self.processes.share(optimisation.batch_size))
        self.micro_batch = min(micro_batch or share, share)
        self._recipe = optimisation
        self._weights = LossWeights(
            ce=optimisation.ce_weight,
            mask=optimisation.mask_weight,
            dice=optimisation.dice_weight,
            bce=optimisation.bce_weight,
            ce_scale=optimisation.ce_scale,
        )
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._optimisers = _optimisers(network, optimisation)
        self._schedules = [
            PolySchedule(
                optimiser,
                optimisation.iterations,
                power=optimisation.power,
                minimum=optimisation.min_learning_rate,
            )
            for optimiser in self._optimisers
        ]
        self._average = _copied(network.state_dict()) if optimisation.ema_decay else None

    def step(self, batch: TrainingBatch) -> StepResult:
        """Train on this process's part of a batch; the weights are not updated if the loss or its
        gradient is not finite.

        Raises:
            ZutisError: the GPU's memory is too small for a single image.
        """
        import torch

        sums, tokens = self._gradients_within_memory(batch, self._totals(batch))
        loss, ce_loss, mask_loss = self.processes.sum(sums).tolist()
        self.processes.sum_gradients(self._parameters)
        # A finite loss may have an infinite gradient, after which all weights would be NaN.
        norm = torch.nn.utils.get_total_norm(
            [p.grad for p in self._parameters if p.grad is not None]
        )
        encoder_rate, rate = map(float, self._schedules[0].get_last_lr())
        result = StepResult(loss, ce_loss, mask_loss, float(norm), (rate, encoder_rate), tokens)
        if result.is_finite:
            self._update(norm)
        return result

    def trained_weights(self) -> dict[str, Tensor]:
        """The weights to publish, by name: the moving average if there is one."""
        return dict(self.network.state_dict() if self._average is None else self._average)

    def state_dict(self) -> dict[str, Any]:
        """The complete state, on which the next steps depend."""
        return {
            "steps_done": self.steps_done,
            "micro_batch": self.micro_batch,
            "network": self.network.state_dict(),
            "average": self._average,
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
            "schedules": [schedule.state_dict() for schedule in self._schedules],
            "random": _random_states(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict` exactly."""
        self.steps_done = state["steps_done"]
        self.micro_batch = min(self.micro_batch, state["micro_batch"])
        self.network.load_state_dict(state["network"])
        for name, value in (self._average or {}).items():
            value.copy_(state["average"][name])
        for optimiser, values in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(values)
        for schedule, values in zip(self._schedules, state["schedules"], strict=True):
            schedule.load_state_dict(values)
        _set_random_states(state["random"])

    def _totals(self, batch: TrainingBatch) -> tuple[float, float]:
        """Numbers of images and of counted pixels of the whole batch; at least 1 each."""
        import torch

        counts = [len(batch.images), self._counted_pixels(batch.semantic_masks)]
        # float64 represents every count exactly, and all backends can sum it.
        totals = torch.tensor(counts, dtype=torch.float64, device=self.network.device)
        images, pixels = self.processes.sum(totals).tolist()
        return max(images, 1.0), max(pixels, 1.0)

    def _counted_pixels(self, semantic_masks: Tensor) -> int:
        return int((semantic_masks != self.ignore_index).sum())

    def _gradients_within_memory(
        self, batch: TrainingBatch, totals: tuple[float, float]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        import torch

        while True:
            try:
                return self._gradients(batch, totals)
            except torch.cuda.OutOfMemoryError:
                pass
            # Only after the exception are the failed attempt's tensors free.
            self._halve_micro_batch()

    def _halve_micro_batch(self) -> None:
        import torch

        self._forget_gradients()
        torch.cuda.empty_cache()
        if self.micro_batch == 1:
            raise ZutisError(
                "The GPU's memory is too small for a single training image: choose a smaller crop, "
                "fewer queries or bfloat16, or a GPU with more memory."
            )
        self.micro_batch = (self.micro_batch + 1) // 2
        log.warning(
            "The GPU's memory is full: from now on the micro-batch has %d images, and gradients "
            "are accumulated; the result is the same up to rounding.",
            self.micro_batch,
        )

    def _gradients(
        self, batch: TrainingBatch, totals: tuple[float, float]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Compute the parameters' gradients; returns this process's share of the losses, float64
        [3] (loss, cross entropy, masks), and the tokens of each micro-batch."""
        import torch

        from zutis_model.training.criterion import criterion

        self._forget_gradients()
        sums = torch.zeros(3, dtype=torch.float64, device=self.network.device)
        tokens = []
        for places in _pieces(len(batch.images), self.micro_batch):
            semantic_masks = batch.semantic_masks[places]
            images = batch.images[places].to(self.network.device, non_blocking=True)
            output = self.network(images, all_layers=True)
            losses = criterion(
                output.mask_proposals,
                output.patch_tokens,
                self.text_embeddings,
                semantic_masks,
                batch.instance_masks[places],
                weights=self._weights,
                ignore_index=self.ignore_index,
                object_weights=batch.object_weights and batch.object_weights[places],
            )
            ce = losses.ce_loss * (self._counted_pixels(semantic_masks) / totals[1])
            mask = losses.mask_loss * (len(images) / totals[0])
            loss = self._weights.mask * mask + self._weights.ce * ce
            loss.backward()  # type: ignore[no-untyped-call]
            sums += torch.stack([loss.detach(), ce.detach(), mask.detach()])
            tokens.append(output.patch_tokens.detach())
        return sums, tuple(tokens)

    def _forget_gradients(self) -> None:
        for optimiser in self._optimisers:
            optimiser.zero_grad()

    def _update(self, norm: Tensor) -> None:
        import torch

        if self._recipe.max_gradient_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(
                self._parameters, self._recipe.max_gradient_norm, norm
            )
        for optimiser, schedule in zip(self._optimisers, self._schedules, strict=True):
            optimiser.step()
            schedule.step()
        self.steps_done += 1
        if self._average is not None and self._recipe.ema_decay is not None:
            for name, value in self.network.state_dict().items():
                _move_average(self._average[name], value, 1 - self._recipe.ema_decay)


def _optimisers(network: Zutis, recipe: Optimisation) -> list[torch.optim.Optimizer]:
    """AdamW, with the encoder's weights as its first group and the others as its second; and Muon
    with the matrices of both, if it is enabled."""
    import torch

    from zutis_model.training.muon import inner_matrices, make_muon

    named = dict(network.named_parameters())
    of_muon = inner_matrices(named.items()) if recipe.muon_factor is not None else set()
    rates = (recipe.learning_rate * recipe.encoder_factor, recipe.learning_rate)
    groups = [
        [name for name in named if name.startswith("encoder.") == in_encoder]
        for in_encoder in (True, False)
    ]
    adamw = torch.optim.AdamW(
        [
            {"params": [named[name] for name in group if name not in of_muon], "lr": rate}
            for group, rate in zip(groups, rates, strict=True)
        ],
        weight_decay=recipe.weight_decay,
    )
    if recipe.muon_factor is None:
        return [adamw]
    matrices = (
        ([named[name] for name in group if name in of_muon], recipe.muon_factor * rate)
        for group, rate in zip(groups, rates, strict=True)
    )
    return [adamw, make_muon(matrices, recipe.weight_decay)]


def _pieces(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def _copied(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state_dict.items()}


def _move_average(average: Tensor, value: Tensor, share: float) -> None:
    if average.is_floating_point():
        average.lerp_(value, share)
    else:
        average.copy_(value)


def _random_states() -> dict[str, Any]:
    # Training itself draws no random numbers: samples have their own, and there is no dropout. The
    # states are saved in case a network uses them.
    import torch

    cuda = torch.cuda.get_rng_state_all() if _cuda_is_used() else []
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def _set_random_states(states: dict[str, Any]) -> None:
    import torch

    torch.set_rng_state(states["torch"])
    if _cuda_is_used() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def _cuda_is_used() -> bool:
    import torch

    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
