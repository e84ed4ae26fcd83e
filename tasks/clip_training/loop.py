"""The training loop of a CLIP on images and captions, with warm-up and cosine decay.

The recipe is CLIP's (Radford et al. 2021, section 2.5), with learning rates for small models. On a
CPU, the same batches and seeds give the same weights if torch uses the same number of threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.errors.exceptions import ConfigError
from storage.errors.numbers import check_numbers
from tasks.training.allocator import keep_freed_memory
from tasks.training.timed_schedule import check_loss, learning_rate, share_done

if TYPE_CHECKING:
    import open_clip
    import torch

    from zutis_model.clip.own_architectures import Tokenizer

Batches = Iterator[tuple[NDArray[np.uint8], list[str]]]
"""Images uint8 [n, s, s, 3], RGB, of the model's input size, and a caption for each."""


@dataclass(frozen=True, kw_only=True)
class ClipTrainingConfig:
    """Hyperparameters of a CLIP training.

    Attributes:
        steps: number of batches.
        learning_rate: the highest, after the warm-up; AdamW's, from which Muon's follows.
        warmup_steps: over which the learning rate rises linearly.
        weight_decay: of matrices.
        max_gradient_norm: gradients are clipped to it.
        precision: `float32` or `bfloat16` (autocast).
        max_seconds: time limit; the training and its cosine end then if `steps` batches take
            longer, and the weights depend on the machine's speed. 0: no limit.
        tiles: images along the side of a mosaic; see `contrastive.embed_pairs`.
    """

    steps: int
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.1
    max_gradient_norm: float = 1.0
    precision: str = "float32"
    max_seconds: float = 0.0
    tiles: int = 1

    def __post_init__(self) -> None:
        check_numbers(self)
        for name in ("steps", "learning_rate", "max_gradient_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: choose more than 0.")
        for name in ("warmup_steps", "weight_decay", "max_seconds"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: choose 0 or more.")
        if self.precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision is {self.precision!r}: choose float32 or bfloat16.")


@dataclass(frozen=True, kw_only=True)
class ClipStep:
    """Progress of a training.

    Attributes:
        step: number of finished batches.
        done: finished share of the training, 0..1.
        loss: of the last batch.
        scale: factor of the cosines.
        learning_rate: of the last batch.
    """

    step: int
    done: float
    loss: float
    scale: float
    learning_rate: float


def train_clip_model(
    model: open_clip.CLIP,
    tokenizer: Tokenizer,
    batches: Batches,
    config: ClipTrainingConfig,
    on_step: Callable[[ClipStep], None],
) -> None:
    """Train a model in place.

    Args:
        model: see `contrastive.new_clip`; it is trained on the device that it is on.
        tokenizer: of its architecture.
        batches: at least `config.steps` of them.
        config: hyperparameters.
        on_step: called after each batch.

    Raises:
        ConfigError: the loss is not finite, for instance because the learning rate is too high.
    """
    from zutis_model.training.contrastive import make_optimisers

    keep_freed_memory(model.logit_scale.device.type)
    optimisers = make_optimisers(model, config.learning_rate, config.weight_decay)
    highest = [(group, group["lr"]) for one in optimisers for group in one.param_groups]
    started, step, done = time.monotonic(), 0, 0.0
    while done < 1:
        rate = learning_rate(config, step, done)
        for group, at_most in highest:
            group["lr"] = at_most * rate / config.learning_rate
        loss = _learn(model, tokenizer, next(batches), optimisers, config)
        step += 1
        check_loss(config, step, loss)
        done = share_done(config, step, time.monotonic() - started)
        scale = float(model.logit_scale.detach().exp())
        on_step(ClipStep(step=step, done=done, loss=loss, scale=scale, learning_rate=rate))


def _learn(
    model: open_clip.CLIP,
    tokenizer: Tokenizer,
    batch: tuple[NDArray[np.uint8], list[str]],
    optimisers: Sequence[torch.optim.Optimizer],
    config: ClipTrainingConfig,
) -> float:
    """One training step; returns the loss before it."""
    import torch

    from zutis_model.layers.precision import autocast
    from zutis_model.training.contrastive import contrastive_loss, embed_pairs, limit_scale

    pixels, captions = batch
    device = model.logit_scale.device
    tokens = tokenizer(captions).to(device)
    with autocast(device, "bfloat16" if config.precision == "bfloat16" else "float32"):
        images, texts = embed_pairs(
            model,
            torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).contiguous(),
            tokens,
            config.tiles,
        )
    loss = contrastive_loss(images, texts, model.logit_scale.exp())
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
    for optimiser in optimisers:
        optimiser.step()
    limit_scale(model)
    return float(loss.detach())
